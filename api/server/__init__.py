"""The HTTP server: limits on connections, requests and responses, and checks before the start."""
