"""Alembic's entry point: one transaction, one writer at a time. Called through db.migrate only."""

from alembic import context
from sqlalchemy import text

from db.roles import TURN


def run() -> None:
    """Wait for a turn (a minute at the most), then upgrade, without ever holding up the service for long."""
    connection = context.config.attributes["connection"]
    applied = context.config.attributes["applied"]
    context.configure(
        connection=connection,
        target_metadata=None,
        on_version_apply=lambda *, step, **_: applied(step.up_revision_id),
    )
    with context.begin_transaction():
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": TURN})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()


run()
