"""Events: their types, fold, codec, hash chain and log."""
