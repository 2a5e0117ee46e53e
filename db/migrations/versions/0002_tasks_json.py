"""Each task's JSON beside it, made when the row is written: reads send it as it is (docs/adr/0015)."""

from alembic import op

revision = "0002"
down_revision = "0001"


# to_char and to_json count as depending on settings, so no generated column may use them; these don't.
def _moment(column: str) -> str:
    """RFC 3339 in UTC, always six decimals and `Z` (contract, section 1)."""
    parts = zip(("year", "month", "day", "hour", "minute", "second"), (4, 2, 2, 2, 2, 9), "--T::Z", strict=True)
    text = " || ".join(
        f"lpad(extract({part} FROM {column} AT TIME ZONE 'UTC')::text, {digits}, '0') || '{end}'"
        for part, digits, end in parts
    )
    return f"coalesce({text}, 'infinity')"  # no event is of such a moment, but it is one to Postgres


# json_object quotes the texts; without its braces. It never ends in one of theirs: a text ends in a quote.
_TEXTS = "btrim(json_object(ARRAY['user_id', 'title', 'description'], ARRAY[user_id, title, description])::text, '{}')"
JSON = f"""
    '{{"id" : "' || id::text || '", ' || {_TEXTS} || ', "completed" : ' || completed::text
    || ', "created_at" : "' || {_moment("created_at")} || '", "updated_at" : "' || {_moment("updated_at")}
    || '", "version" : ' || version::text || '}}'
"""


def upgrade() -> None:
    # Room for a row's next version beside it: then no index has to be touched (HOT). The rows are written anew below.
    for number in range(16):
        op.execute(f"ALTER TABLE tasks_p{number:02} SET (fillfactor = 80)")
    op.execute(f"ALTER TABLE tasks ADD COLUMN json text NOT NULL GENERATED ALWAYS AS ({JSON}) STORED")
    op.execute("COMMENT ON COLUMN tasks.json IS 'The task as clients see it. Postgres makes it of the other columns.'")
