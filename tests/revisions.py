"""Migrations of releases to come."""

import shutil
from pathlib import Path

from db.schema import CURRENT
from tests.test_docs import ROOT

PACKAGES = ("api", "cli", "commands", "config", "db", "events", "queries", "telemetry")

REVISION = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    for statement in {statements!r}:
        op.execute(statement)
"""


def add_revisions(migrations: Path, *revisions: str | tuple[str, ...]) -> list[str]:
    """Write one migration for each element, after the newest of ours. Return their names."""
    names = [f"{int(CURRENT) + number:04}" for number in range(len(revisions) + 1)]
    for before, name, statements in zip(names, names[1:], revisions, strict=False):
        each = (statements,) if isinstance(statements, str) else statements
        text = REVISION.format(revision=name, before=before, statements=each)
        (migrations / "versions" / f"{name}_next.py").write_text(text)
    return names[1:]


def next_release(folder: Path, *revisions: str | tuple[str, ...]) -> list[str]:
    """Make a copy of the program in the folder, with more migrations: a process started there runs it."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return add_revisions(folder / "db" / "migrations", *revisions)
