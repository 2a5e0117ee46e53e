"""Alembic's entry point. `db.migrate` calls it, within a transaction and with the turn taken."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
