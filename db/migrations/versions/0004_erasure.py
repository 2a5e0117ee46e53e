"""Let the content of events be erased, and nothing else of them be changed."""

from importlib.resources import files

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"

# No row is read or written. The condition is held to by rows that are written from now on; the others fulfil it.
COLUMNS = """
ALTER TABLE events
    ALTER COLUMN data DROP NOT NULL,
    ALTER COLUMN salt DROP NOT NULL,
    ADD COLUMN personal bytea
"""
# A statement of its own, since Citus adds no constraint with anything else.
CONSTRAINT = """
ALTER TABLE events ADD CONSTRAINT events_personal_check CHECK (CASE
    WHEN personal IS NULL THEN data IS NOT NULL AND salt IS NOT NULL
    ELSE octet_length(personal) = 32 AND data IS NULL AND salt IS NULL
END) NOT VALID
"""

FUNCTION = "daybook_erase"
GUARD = "daybook_guard_content"
_BODIES = files("db") / "functions"
SEARCH_PATH = """
DO $$ BEGIN EXECUTE format('ALTER FUNCTION daybook_erase SET search_path = %I, pg_temp', current_schema()); END $$
"""
GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'daybook_app') THEN
        GRANT EXECUTE ON FUNCTION daybook_erase TO daybook_app;
    END IF;
END $$
"""

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass ORDER BY 1"
# Citus refuses triggers unless this is set. Ours looks at rows of its own shard, which has all of a user's.
WITH_TRIGGERS = "SET LOCAL citus.enable_unsafe_triggers = on"

COMMENTS = {
    "COLUMN events.personal": "The inner digest, in the place of content that was erased.",
    "CONSTRAINT events_personal_check ON events": "An event has its content or, if that was erased, its inner digest.",
    "FUNCTION daybook_erase": "Erases the content of events that other events record as erased.",
    "FUNCTION daybook_guard_content": "Lets content be erased, and nothing else be changed, by the owner too.",
}


def upgrade() -> None:
    op.execute(WITH_TRIGGERS)
    op.execute(COLUMNS)
    op.execute(CONSTRAINT)
    for name in (FUNCTION, GUARD):
        op.execute((_BODIES / f"{name}.sql").read_text())
    op.execute(SEARCH_PATH)
    op.execute("REVOKE EXECUTE ON FUNCTION daybook_erase FROM PUBLIC")
    op.execute(GRANT)
    tables = ("events", *op.get_bind().execute(text(PARTITIONS)).scalars())
    for each in tables:
        op.execute(f"DROP TRIGGER append_only ON {each}")
        op.execute(
            f"CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON {each} "
            "FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse()"
        )
    # Partitions get a copy of a trigger for each row, but not the state ALWAYS.
    op.execute(
        "CREATE TRIGGER append_only_but_erasure BEFORE UPDATE ON events "
        "FOR EACH ROW EXECUTE FUNCTION daybook_guard_content()"
    )
    for each in tables:
        op.execute(f"ALTER TABLE {each} ENABLE ALWAYS TRIGGER append_only")
        op.execute(f"ALTER TABLE {each} ENABLE ALWAYS TRIGGER append_only_but_erasure")
    for what, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment.replace(chr(39), chr(39) * 2)}'")
