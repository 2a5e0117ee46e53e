"""Integrity: follow the hash chain, replay the log, verify and rebuild the projection."""
