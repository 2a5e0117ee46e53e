"""The terminal: serve, migrate, token."""
