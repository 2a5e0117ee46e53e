"""The Next.js example: in a browser against a service on this database, and as `make example` starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.npm import CLIENT, build_client, install, is_newer, locked, needs_npm, run
from tests.processes import free_port, until_free

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/next"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

pytestmark = [pytest.mark.once, pytest.mark.unmeasured, needs_npm, pytest.mark.timeout(600)]


@pytest.fixture
def built() -> None:
    """Build the app once, whichever test asks first. The build checks its types, too."""
    build_client()
    install(EXAMPLE, CLIENT / "dist/index.js")
    with locked(EXAMPLE):
        folders = ("alternatives", "app", "components", "e2e", "lib")
        sources = [path for folder in folders for path in (EXAMPLE / folder).rglob("*.*")]
        if is_newer(EXAMPLE / ".next/BUILD_ID", EXAMPLE / "node_modules/.package-lock.json", *sources):
            return
        run(EXAMPLE, "npx", "biome", "ci")
        run(EXAMPLE, "npm", "run", "build", timeout=400, CI="true", BETTER_AUTH_SECRET="of the build" * 4)


@pytest.fixture
async def users(server: str) -> AsyncIterator[str]:
    """Return the DSN of a database for Better Auth."""
    async with new_database(server) as dsn:
        yield dsn


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
def test_the_app_in_a_browser(built: None, database: str, users: str) -> None:  # noqa: ARG001
    run(
        EXAMPLE,
        "npm",
        "run",
        "e2e",
        CHROMIUM=str(CHROMIUM),
        PYTHON=sys.executable,
        DATABASE_URL=database,
        AUTH_DATABASE_URL=users,
    )


def test_one_command_starts_all_of_it_and_stops_all_of_it(built: None, folder: Path) -> None:  # noqa: ARG001
    port, daybook_port = free_port(), free_port()
    start = [sys.executable, "-m", "examples.run", "--port", str(port), "--daybook-port", str(daybook_port)]
    environment = {**os.environ, "DAYBOOK_DATA_DIR": str(folder)}
    given = subprocess.check_output([*start, "--env"], cwd=ROOT, env=environment, text=True)
    assert re.findall("(?m)^([A-Z_]+)=", (EXAMPLE / ".env.example").read_text()) == re.findall(
        "(?m)^(?!NEXT)([A-Z_]+)=.", given
    )
    with subprocess.Popen([*start, "--built"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("The app is running" in line for line in process.stdout)
        with urllib.request.urlopen(f"http://localhost:{port}/") as page:
            assert page.url == f"http://localhost:{port}/sign-in"
        process.send_signal(signal.SIGINT)
        assert "Stopped." in process.stdout.read()
    assert process.returncode == 0
    until_free(port)
    until_free(daybook_port)
    assert not (folder / "postgres/postmaster.pid").exists()
