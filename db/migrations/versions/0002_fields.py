"""Add the columns of priority, due date, tags and completion."""

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"

# Without defaults, so that no row is read or written. `daybook rebuild` fills them from the log.
COLUMNS = """
ALTER TABLE tasks
    ADD COLUMN priority smallint,
    ADD COLUMN due_date text COLLATE "C",
    ADD COLUMN tags text COLLATE "C",
    ADD COLUMN completed_at timestamptz
"""

FUNCTIONS = ("daybook_append", "daybook_append_many")
_BODIES = files("db") / "functions"
SEARCH_PATH = """
DO $$ BEGIN EXECUTE format('ALTER FUNCTION {name} SET search_path = %I, pg_temp', current_schema()); END $$
"""
GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'daybook_app') THEN
        GRANT EXECUTE ON FUNCTION {name} TO daybook_app;
    END IF;
END $$
"""

COMMENTS = {
    "COLUMN tasks.priority": "1 low, 2 medium, 3 high.",
    "COLUMN tasks.due_date": "A date, or a moment in UTC: as text, both are in one order.",
    "COLUMN tasks.tags": "The tags, a line each, with a line end before and after each.",
    "COLUMN tasks.completed_at": "When it was last completed; null while it isn't.",
    "COLUMN tasks.search_text": "Title, description and tags in the form in which they are searched.",
    "FUNCTION daybook_append": "Appends events to one stream, and moves the projection along with each.",
    "FUNCTION daybook_append_many": "Appends events to several streams.",
}


def upgrade() -> None:
    op.execute(COLUMNS)
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
        op.execute((_BODIES / f"{name}.sql").read_text())
        op.execute(SEARCH_PATH.format(name=name))
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")
        op.execute(GRANT.format(name=name))
    for what, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment.replace(chr(39), chr(39) * 2)}'")
