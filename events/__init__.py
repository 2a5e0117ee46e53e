"""What happened: event types, the fold, the codec, the chain and the log."""
