"""The embedded Postgres runs in a folder of any name, and no name is run as a command."""

import os
import shutil
from pathlib import Path

import pytest

from db.embedded import EmbeddedPostgresFailed, binaries, running
from tests.integration.test_embedded import ask, servers
from tests.processes import Serving

pytestmark = pytest.mark.once

NAMES = [
    "$(touch {mark})",
    "`touch {mark}`",
    '"; touch {mark}; "',
    "'; touch {mark}; '",
    "one,two",
    "$HOME \\ %s %% # = & | < > * ? [x] ~ ! {{}}",
    " -D ",
    "tab\tand bell\a",
    "Zoë",
    os.fsdecode(b"not UTF-8: \xff"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_holds_a_server(folder: Path, name: str) -> None:
    folder.chmod(0o777)  # so that the server's account could leave its mark
    mark = folder / "executed"
    data = folder / name.format(mark=mark)
    with running(data) as dsn:
        assert ask(dsn, "SELECT 1") == 1
        with running(data) as again:
            assert again == dsn
        assert len(servers(data)) == 1
    assert servers(data) == []
    with running(data) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert servers(data) == []
    assert not mark.exists()


def test_a_folder_with_a_line_break_in_its_name_is_refused(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="line break"), running(folder / "one\ntwo"):
        pass
    assert servers(folder / "one\ntwo") == []


def test_a_service_in_such_a_folder_starts_answers_and_stops(folder: Path) -> None:
    folder.chmod(0o777)
    mark = folder / "executed"
    project = folder / f'it\'s $(touch {mark}), "here"'
    project.mkdir(parents=True)
    with Serving(project, PYTHONPATH=str(Path.cwd())) as serving:
        serving.wait_until_ready()
        assert len(servers(project / ".daybook")) == 1
        assert serving.stop() == 0
    assert servers(project / ".daybook") == []
    assert not mark.exists()


def install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Postgres's programs run from a copy that is nobody else's to read, as `umask 077` makes it."""
    package = binaries().parents[1]
    for part in (package.with_suffix(".libs"), package / "pginstall18"):
        to = place / part.relative_to(package.parent)
        shutil.copytree(part, to, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    (place / package.name / "__init__.py").touch()
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.syspath_prepend(str(place))
    assert binaries().is_relative_to(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another account")
def test_a_server_installed_under_umask_077_runs_as_another_account(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(folder / "site", monkeypatch)
    before = os.umask(0o077)
    try:
        with running(folder / "data") as dsn:
            assert ask(dsn, "SELECT 1") == 1
    finally:
        os.umask(before)
    assert servers(folder / "data") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give data away")
def test_data_of_an_account_without_a_name_is_used_as_that_account(folder: Path) -> None:
    with running(folder):
        pass
    for path in (folder / "postgres", *(folder / "postgres").rglob("*")):
        os.chown(path, 54321, 54321)
    with running(folder) as dsn:
        assert ask(dsn, "SELECT 1") == 1
        assert (folder / "postgres" / "postmaster.pid").stat().st_uid == 54321
    assert servers(folder) == []


def test_programs_whose_path_initdb_would_have_a_shell_read_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = folder / "executed"
    install(folder / f"$(touch {mark})", monkeypatch)
    with pytest.raises(EmbeddedPostgresFailed, match="through a shell"), running(folder / "data"):
        pass
    assert not mark.exists()
