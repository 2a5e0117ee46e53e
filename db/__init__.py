"""Postgres, and nothing about tasks: addresses, the pool, the embedded server, migrations."""
