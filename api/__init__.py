"""HTTP: the app factory, routers, who is asking, errors, wire models."""
