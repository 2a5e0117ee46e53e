"""The event store: append events, read them back."""
