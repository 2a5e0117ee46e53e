"""Files that commands keep in the data folder, and their permissions."""

import fcntl
import stat
from pathlib import Path

import pytest

from tests.processes import free_port, run
from tests.service import SECRET

pytestmark = pytest.mark.once


def test_a_key_that_is_made_for_a_token_is_told_whatever_is_logged(folder: Path) -> None:
    first = run(folder, "token", "ann", LOG_LEVEL="ERROR")
    assert (first.returncode, first.stdout.count("\n")) == (0, 1)
    assert f"There was no key in {folder / '.daybook'}, so one was made" in first.stderr
    assert run(folder, "token", "ann", LOG_LEVEL="ERROR").stderr == ""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    assert run(elsewhere, "token", "ann", JWT_SECRET=SECRET).stderr == ""
    assert not (elsewhere / ".daybook").exists()


@pytest.mark.parametrize("content", ["[]", "null", '{"pid": 1}', "\x00"])
def test_the_serve_lock_is_its_owners_alone_and_may_hold_anything(folder: Path, content: str) -> None:
    (folder / ".daybook").mkdir()
    lock = folder / ".daybook" / "serve.lock"
    lock.write_text(content)
    lock.chmod(0o644)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = run(folder, "serve", "--port", str(free_port()))
    assert (result.returncode, "just starting or stopping" in result.stderr) == (2, True)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
