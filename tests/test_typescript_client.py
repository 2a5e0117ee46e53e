"""The TypeScript client: its types, and its own tests against a service on this database."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[1] / "clients/typescript"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node and npm aren't installed"),
]


def run(*command: str, **variables: str) -> str:
    """Run a command in the client's folder. Return its output; fail with all that it said if the command fails."""
    ended = subprocess.run(
        command,
        cwd=CLIENT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_client_is_typed_as_the_document_says_and_passes_its_tests(database: str) -> None:
    installed, wanted = CLIENT / "node_modules/.package-lock.json", CLIENT / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        run("npm", "ci", "--no-audit", "--no-fund")
    up_to_date = run("npm", "run", "-s", "types") == (CLIENT / "src/schema.d.ts").read_text()
    assert up_to_date, "src/schema.d.ts isn't as docs/openapi.json has it: `make client`"
    run("npm", "run", "check")
    run("npm", "test", PYTHON=sys.executable, DATABASE_URL=database)
