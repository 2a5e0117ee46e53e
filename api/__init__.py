"""HTTP: the app factory, routers, authentication, errors, wire models."""
