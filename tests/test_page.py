"""The page: what is served is what its sources make, it passes its own tests, and a real browser shows it."""

import gzip
import re
import shutil
import sys
from pathlib import Path

import asyncpg
import pytest

from db.dsn import connect_arguments
from tests.conftest import let_the_log_change
from tests.integration.test_verify_and_rebuild import seal
from tests.npm import install, needs_npm, run
from tests.processes import Serving, free_port

ROOT = Path(__file__).parents[1]
WEB, BUILT = ROOT / "web", ROOT / "api/static"
BUDGET = {".js": 45_000, ".css": 12_000}
"""Bytes that a browser may have to load of each kind, compressed."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [pytest.mark.once, pytest.mark.unmeasured]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium isn't installed")


@pytest.fixture
def installed() -> None:
    """Install what the page is built with, whichever test asks first."""
    install(WEB)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_npm
@pytest.mark.usefixtures("installed")
def test_what_is_served_is_what_the_sources_make(tmp_path: Path) -> None:
    run(WEB, "npm", "run", "-s", "build", "--", "--outDir", str(tmp_path / "built"), "--logLevel", "warn")
    assert files(tmp_path / "built") == files(BUILT), "api/static isn't as web/ makes it: `make web`"


@needs_npm
@pytest.mark.usefixtures("installed")
def test_the_page_passes_its_own_tests() -> None:
    run(WEB, "npm", "run", "check")
    run(WEB, "npm", "test", PYTHON=sys.executable)


@pytest.mark.parametrize("suffix", BUDGET)
def test_the_page_stays_small(suffix: str) -> None:
    sizes = [len(gzip.compress(content)) for name, content in files(BUILT).items() if name.endswith(suffix)]
    assert 0 < sum(sizes) <= BUDGET[suffix]


def test_the_page_names_no_other_host_and_brings_no_font() -> None:
    for name, content in files(BUILT).items():
        hosts = set(re.findall(rb"(?:https?:)?//([\w-]+(?:\.[\w-]+)+)", content))
        assert hosts <= {b"www.w3.org"}, name  # the names of XML's own kinds, which nothing requests
        assert b"@font-face" not in content
        assert b"@import" not in content


def in_browser(name: str, serving: Serving, folder: Path, *options: str, **variables: str) -> None:
    """Run the tests of a file of web/browser. Afterwards, no line of the service's log may have a token in it."""
    key = (folder / ".daybook/jwt_secret").read_text()
    given = {"DAYBOOK_URL": serving.url, "DAYBOOK_SECRET": key, "CHROMIUM": str(CHROMIUM), **variables}
    run(WEB, "node", "--test", *options, f"browser/{name}.test.mjs", timeout=240, **given)
    assert not [line for line in serving.errors if "eyJ" in line]


@needs_npm
@needs_chromium
@pytest.mark.usefixtures("installed")
def test_each_view_does_what_it_says(database: str, folder: Path) -> None:
    with Serving(folder, DATABASE_URL=database) as serving:
        greeting = serving.greeting()
        link = re.findall(r"http\S+/ui/#token=\S+", greeting)[0]
        in_browser("page", serving, folder, DAYBOOK_LINK=link)
        in_browser("past", serving, folder)
        assert [line for line in serving.errors if "method=POST" in line]  # the log does have the page's requests


@needs_npm
@needs_chromium
@pytest.mark.usefixtures("installed")
def test_no_view_breaks_a_known_rule_of_accessibility(database: str, folder: Path) -> None:
    with Serving(folder, DATABASE_URL=database) as serving:
        serving.wait_until_ready()
        in_browser("access", serving, folder)


@needs_npm
@needs_chromium
@pytest.mark.usefixtures("installed")
def test_the_operators_page_signs_in(database: str, folder: Path) -> None:
    login = f"http://127.0.0.1:{free_port()}/login"
    with Serving(folder, DATABASE_URL=database, WEB_LOGIN_URL=login) as serving:
        serving.wait_until_ready()
        in_browser("login", serving, folder, LOGIN_URL=login)


@needs_npm
@needs_chromium
@pytest.mark.usefixtures("installed")
async def test_the_proof_names_what_was_changed_between_two_visits(database: str, folder: Path) -> None:
    with Serving(folder, DATABASE_URL=database) as serving:
        serving.wait_until_ready()

        def visit(which: str) -> None:
            in_browser("proof", serving, folder, f"--test-name-pattern=^{which}", PROFILE=str(folder / "profile"))

        visit("first visit")
        await let_the_log_change(database)
        connection = await asyncpg.connect(**connect_arguments(database))
        try:
            await connection.execute(
                "UPDATE events SET data = replace(data::text, 'Call Ann', 'Call Bob')::jsonb"
                " WHERE user_id = 'proof' AND seq = 2"
            )
            visit("changed")
            await seal(connection, "proof")
            visit("made anew")
        finally:
            await connection.close()
