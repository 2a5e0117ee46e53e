"""The commands for the terminal: serve, migrate, token, rebuild, verify."""
