"""What the environment says: settings, and how to log."""
