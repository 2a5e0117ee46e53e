"""Add the record of auditors' reads."""

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"

ACCESSES = """
CREATE TABLE accesses (
    user_id text NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    auditor text NOT NULL,
    actor text NOT NULL,
    path text NOT NULL,
    request_id text NOT NULL,
    CONSTRAINT accesses_pkey PRIMARY KEY (user_id, id),
    CONSTRAINT accesses_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255)
)
"""
# ALWAYS, so that session_replication_role doesn't switch it off.
TRIGGER = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON accesses
FOR EACH STATEMENT EXECUTE FUNCTION daybook_refuse()
"""
ALWAYS = "ALTER TABLE accesses ENABLE ALWAYS TRIGGER append_only"

FUNCTION = "daybook_record_access"
_BODY = files("db") / "functions" / f"{FUNCTION}.sql"
SEARCH_PATH = f"""
DO $$ BEGIN EXECUTE format('ALTER FUNCTION {FUNCTION} SET search_path = %I, pg_temp', current_schema()); END $$
"""
GRANT = f"""
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'daybook_app') THEN
        GRANT SELECT ON accesses TO daybook_app;
        GRANT EXECUTE ON FUNCTION {FUNCTION} TO daybook_app;
    END IF;
END $$
"""

COMMENTS = {
    "TABLE accesses": "Who has read a user's log as an auditor, one row per request. Append-only.",
    "CONSTRAINT accesses_pkey ON accesses": "No read is on record twice; serves pages, newest first, of one user.",
    "CONSTRAINT accesses_user_id_check ON accesses": "User ids are opaque, but neither empty nor endless.",
    "COLUMN accesses.auditor": "The user of the auditor's token.",
    "COLUMN accesses.actor": "Who acted with that token: the auditor, or somebody for them.",
    "COLUMN accesses.path": "The path that was read, without its query.",
    f"FUNCTION {FUNCTION}": "Puts an auditor's read of a user's log on record.",
}


def upgrade() -> None:
    op.execute(ACCESSES)
    op.execute(TRIGGER)
    op.execute(ALWAYS)
    op.execute(_BODY.read_text())
    op.execute(SEARCH_PATH)
    op.execute(f"REVOKE EXECUTE ON FUNCTION {FUNCTION} FROM PUBLIC")
    op.execute(GRANT)
    for what, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {what} IS '{comment.replace(chr(39), chr(39) * 2)}'")
