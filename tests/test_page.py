"""The page's sources: what they are built into is committed, and they pass their own tests."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WEB, BUILT = ROOT / "web", ROOT / "api/static"
BUDGET = {".js": 45_000, ".css": 12_000}
"""Bytes that a browser may have to load of each kind, compressed."""

pytestmark = [pytest.mark.once, pytest.mark.edge]
needs_node = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="Node and npm aren't installed"
)


def run(*command: str, **variables: str) -> str:
    """Run a command in the page's folder. Return its output; fail with all that it said if the command fails."""
    ended = subprocess.run(
        command,
        cwd=WEB,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed() -> None:
    """The packages that the page is built with, as the lock file names them."""
    there, wanted = WEB / "node_modules/.package-lock.json", WEB / "package-lock.json"
    if not there.exists() or there.stat().st_mtime < wanted.stat().st_mtime:
        run("npm", "ci", "--no-audit", "--no-fund")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_node
@pytest.mark.usefixtures("installed")
def test_what_is_served_is_what_the_sources_make(tmp_path: Path) -> None:
    run("npm", "run", "-s", "build", "--", "--outDir", str(tmp_path / "built"), "--logLevel", "warn")
    assert files(tmp_path / "built") == files(BUILT), "api/static isn't as web/ makes it: `make web`"


@needs_node
@pytest.mark.usefixtures("installed")
def test_the_page_passes_its_own_tests() -> None:
    run("npm", "run", "check")
    run("npm", "test", PYTHON=sys.executable)


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
