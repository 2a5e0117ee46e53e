"""Projects of npm in this repository, installed once, whichever test asks first."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OLDEST_NODE = 20
CLIENT = Path(__file__).parents[1] / "clients/typescript"


def missing() -> str | None:
    """Say what this machine lacks to run them."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "Node and npm aren't installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return None if int(version[1:].split(".")[0]) >= OLDEST_NODE else f"Node {OLDEST_NODE} is needed, this is {version}"


MISSING = missing()
needs_npm = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def run(folder: Path, *command: str, timeout: float = 240, **variables: str) -> str:
    """Run a command in a project's folder. Return its output; fail with all that it said if the command fails."""
    environment = {**os.environ, **variables}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep tests in other processes from installing or building the same project."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def install(folder: Path, *packages: Path) -> None:
    """Install a project from its lock file, with these packages of this repository, unless that is done."""
    with locked(folder):
        if not is_newer(folder / "node_modules/.package-lock.json", folder / "package-lock.json", *packages):
            run(folder, "npm", "ci", "--no-audit", "--no-fund")


def build_client() -> None:
    """Install and build the TypeScript client, unless that is done."""
    install(CLIENT)
    with locked(CLIENT):
        if not is_newer(CLIENT / "dist/index.js", *(CLIENT / "src").rglob("*.ts"), CLIENT / "package.json"):
            run(CLIENT, "npm", "run", "-s", "build")


def is_newer(made: Path, *sources: Path) -> bool:
    """Say if a file was made after the last change of its sources."""
    return made.exists() and made.stat().st_mtime >= max(source.stat().st_mtime for source in sources)
