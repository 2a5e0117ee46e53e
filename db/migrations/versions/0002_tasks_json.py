"""Each task's JSON beside it, made when the row is written: reads send it as it is (docs/adr/0015)."""

from alembic import op

revision = "0002"
down_revision = "0001"

# A task on its way out of the database (contract, section 1), as writes answer it too. It is immutable as it says: a
# moment in UTC with a format of its own depends on no setting, which Postgres can't know. In plpgsql, whose plan is
# kept: the expression itself would be planned anew for every partition that a statement writes to, which takes 0.1 ms.
FUNCTION = """
CREATE FUNCTION daybook_task_json(
    user_id text, id uuid, title text, description text, completed boolean,
    created_at timestamptz, updated_at timestamptz, version integer
) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN format(
        '{"id":"%s","user_id":%s,"title":%s,"description":%s,"completed":%s,'
        '"created_at":"%s","updated_at":"%s","version":%s}',
        id, to_json(user_id), to_json(title), coalesce(to_json(description)::text, 'null'), completed::text,
        to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        version
    );
END
$$
"""
COLUMN = """
ALTER TABLE tasks ADD COLUMN json text NOT NULL GENERATED ALWAYS AS (
    daybook_task_json(user_id, id, title, description, completed, created_at, updated_at, version)
) STORED
"""


def upgrade() -> None:
    # Room for a row's next version beside it: then no index has to be touched (HOT). The rows are written anew below.
    for number in range(16):
        op.execute(f"ALTER TABLE tasks_p{number:02} SET (fillfactor = 80)")
    op.execute(FUNCTION)
    op.execute("COMMENT ON FUNCTION daybook_task_json IS 'A task as clients see it.'")
    op.execute(COLUMN)
    op.execute("COMMENT ON COLUMN tasks.json IS 'The task as clients see it. Postgres makes it of the other columns.'")
