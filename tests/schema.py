"""The schema as it lies in db/schema.sql, for those who read it without migrating a database."""

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from db.dsn import connect_arguments
from db.embedded import binaries, running
from db.migrate import migrate

SNAPSHOT = Path(__file__).parents[1] / "db" / "schema.sql"
REVISIONS = sorted(path.name[:4] for path in (SNAPSHOT.parent / "migrations" / "versions").glob("*.py"))
APPLIED = f"Applied {', '.join(REVISIONS)}."
"""What `daybook migrate` says of a new database."""
_BEGINNING = """\
-- What the migrations make, as pg_dump shows it, for readers: nothing runs it. `make schema` writes it anew.
-- The first partition of a table (events_p00, tasks_p00) stands for all.

"""
_ABOUT_ITSELF = re.compile(r"(?m)^(--$|-- (Name|PostgreSQL|Dumped)|SET \w+ =|SELECT pg_catalog|\\).*\n")
"""Lines of pg_dump's about itself and its session."""
_LIKE_ITS_PARENT = re.compile(r"(?s)(CREATE TABLE \w+_p00 )\(\n.*?\n\)")
_GAP = re.compile(r"\n{3,}")
_GAP_WITHIN = re.compile(r"\n+(?=\nCOMMENT ON |\nALTER TABLE \w+ ENABLE )")


def text(dsn: str) -> str:
    """Return what the snapshot has to be, from a database that was just migrated."""
    to = connect_arguments(dsn)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "database"}
    options = ("--schema-only", "--no-owner", "--no-privileges", "--exclude-table=alembic_version")
    dumped = subprocess.run(
        [binaries() / "pg_dump", *options, "--exclude-table=*_p(0[1-9]|[1-9][0-9])"],
        env={name: str(to[argument]) for name, argument in names.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    schema = _ABOUT_ITSELF.sub("", dumped.stdout).replace("public.", "").strip()
    schema = _LIKE_ITS_PARENT.sub(r"\1(… its parent's columns and checks …)", schema)
    return _BEGINNING + _GAP_WITHIN.sub("", _GAP.sub("\n\n", schema)) + "\n"


if __name__ == "__main__":
    with TemporaryDirectory(prefix="daybook-") as folder, running(Path(folder)) as dsn:
        migrate(dsn)
        SNAPSHOT.write_text(text(dsn))
