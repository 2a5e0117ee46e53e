"""`daybook serve`: start the database, the schema and the server, in that order, and stop all of them."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import IO, Any

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from cli.children import starting_children
from cli.output import say_unbuffered
from cli.scrapes import start_metrics_server
from cli.tokens import sign
from config import outgoing
from config.errors import BadSettings, CannotRun
from config.settings import Settings
from db.embedded import database
from db.indexes import NotBuilt
from db.public_rights import revoke_from_public
from db.reach import reaching
from db.roles import grant_service_role
from db.schema import NotMigrated, check_schema
from telemetry.metrics import all_metrics
from telemetry.worker_metrics import WORKERS_FOLDER

DEMO_USER = "demo"
_DEMO_TTL = timedelta(days=1)
_SHUTDOWN_SECONDS = 8
"""Seconds for requests under way to end. All of the shutdown takes ten, after which Docker and others kill."""
_IDLE_SECONDS = 75
"""Seconds until an idle connection is closed. Proxies keep theirs for 60 as a rule, and must close first: the side that
closes may just be sent a request.
"""
_STARTUP_SECONDS = 60
_DESCRIPTORS = 8192
"""Number of file descriptors of a process; more than its connections take (`api.server.connections`)."""

_FAILED = "The service couldn't start; the line above says why."
_log = structlog.get_logger(__name__)


class CannotServe(CannotRun):
    """The server can't be started. The message says why, and how to go on."""


def serve(settings: Settings, *, host: str, port: int, workers: int, reload: bool, migrate_first: bool) -> None:
    """Run until SIGINT or SIGTERM, then stop everything that was started. Raises `CannotRun`."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    _raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        if not settings.database_url:
            stack.enter_context(_only_one(settings.made_data_dir, address))
        if settings.metrics_port == port:
            raise CannotServe(f"METRICS_PORT: {port} is the API's own; choose another, or set METRICS_PUBLIC=true.")
        _check_free(host, port)
        # From here on signals must pass through us, so that the cleanup below runs, and runs once.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _interrupt)
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # the terminal was closed
        try:
            dsn = stack.enter_context(database(settings.service_url, settings.daybook_data_dir))
            # Fail now, and with a message, rather than in the workers.
            with reaching():
                if migrate_first:
                    owner = settings.migration_url or dsn
                    _migrate(owner, sharded=settings.database_sharded)
                    asyncio.run(revoke_from_public(owner))
                    asyncio.run(grant_service_role(owner, dsn))
                asyncio.run(check_schema(dsn))
            if settings.jwks_url:
                outgoing.client(str(settings.jwks_url))  # only checks that it can be made
            _check_propagators()
            if (workers > 1 or reload) and (settings.metrics_port or settings.metrics_public):
                os.environ[WORKERS_FOLDER] = str(stack.enter_context(_metrics_folder()))
            if settings.metrics_port:
                _tell_metrics(settings, settings.metrics_port)
            _ = settings.signing_secret  # made before the workers start, so that they find it
            if settings.environment == "development":
                threading.Thread(target=_greet, args=(settings, address), daemon=True).start()
            config: dict[str, Any] = {
                "app": "api.app:app_of_a_process",
                "factory": True,
                "host": host,
                "port": port,
                "workers": workers,
                "http": "api.server.protocol:BoundedRequests",
                "ws": "none",
                "log_config": None,
                "access_log": False,
                "server_header": False,
                "proxy_headers": False,  # the app reads them itself (api.middleware.BehindProxies)
                "timeout_keep_alive": _IDLE_SECONDS,
                "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
            }
            _log.info("starting", version=version("daybook"), address=address, workers=workers)
            try:
                _run(config, reload_excludes=[str(settings.daybook_data_dir)] if reload else None)
            finally:
                _log.info("stopped")
        except KeyboardInterrupt:
            pass
        except SystemExit as error:  # uvicorn's own exit
            raise CannotServe(_FAILED) from error
        finally:
            _no_more_signals()


def _raise_descriptor_limit() -> None:
    """Raise the soft limit of file descriptors up to the hard one: it is 1,024 as a rule, for select(2)'s sake."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _run(config: dict[str, Any], *, reload_excludes: list[str] | None) -> None:
    """Run the server until it is told to stop. `reload_excludes`: restart when the code changes, but not for these."""
    if reload_excludes is not None:
        uvicorn.run(**config, reload=True, reload_excludes=reload_excludes)
    elif config["workers"] > 1:
        supervised = uvicorn.Config(**config)
        supervisor = _Supervisor(supervised, [supervised.bind_socket()])
        supervisor.run()
        if any(each.exitcode == STARTUP_FAILURE for each in supervisor.processes):
            raise CannotServe(_FAILED)
    else:
        _Server(uvicorn.Config(**config)).run()


def _migrate(owner: str, *, sharded: bool) -> None:
    """Bring the schema up to date. Raises `CannotRun`, or the errors of connecting."""
    try:
        asyncio.run(check_schema(owner))
    except NotMigrated:
        from db.migrate import migrate  # with Alembic, 30 MB that a service seldom needs

        try:
            migrate(owner, sharded=sharded)
        except NotBuilt as error:
            _log.warning(str(error))


def _check_propagators() -> None:
    """Raise `BadSettings` if OTEL_PROPAGATORS names an unknown propagator: FastAPI couldn't be loaded."""
    if "OTEL_PROPAGATORS" not in os.environ:
        return
    try:
        import_module("opentelemetry.propagate")
    except ValueError as error:
        raise BadSettings(f"OTEL_PROPAGATORS: {error}") from error


class _Server(uvicorn.Server):
    """A server that ends in order, even if Ctrl-C comes twice: a hurried end would leave embedded Postgres running."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            super().handle_exit(sig, frame)


class _Supervisor(Multiprocess):
    """A supervisor that refuses new connections as soon as it stops, as each worker does: else they would wait in vain.

    Its workers never receive Ctrl-C, which reaches the whole process group: the supervisor tells them to stop.
    """

    def init_processes(self) -> None:
        with starting_children():
            super().init_processes()

    def terminate_all(self) -> None:
        for each in self.sockets:
            each.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        with starting_children():
            super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if old is not new:
                _log.error("a worker ended; another takes its place", pid=old.pid, status=old.exitcode)


@contextlib.contextmanager
def _metrics_folder() -> Iterator[Path]:
    """Yield the name of a folder for workers' metrics, removed afterwards. Workers make it as soon as they can."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere, at present
        temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - a name that nobody can guess
    folder = Path(temporary) / f"daybook-metrics-{secrets.token_hex(8)}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tell_metrics(settings: Settings, port: int) -> None:
    host = settings.metrics_host
    try:
        start_metrics_server(host, port, all_metrics(settings.daybook_data_dir))
    except (OSError, UnicodeError) as error:
        name = "METRICS_HOST" if _no_such_host(error) else "METRICS_PORT"
        raise CannotServe(f"{name}: can't listen on {host}:{port}: {_reason(error)}; choose another one") from error


def _interrupt(*_: object) -> None:
    _no_more_signals()
    raise KeyboardInterrupt


def _no_more_signals() -> None:
    """Ignore further signals: shutdown takes a moment, and a second Ctrl-C must not leave the database running."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: None)  # not SIG_IGN: Python would complain about a pending one


@contextlib.contextmanager
def _only_one(folder: Path, address: str) -> Iterator[None]:
    """Hold the folder's serve lock, and note the holder in it. Raises `CannotServe` if another server holds it."""
    path = folder / "serve.lock"
    try:
        path.touch(0o600)
        path.chmod(0o600)  # an account that can open it could hold it; an older file is readable
        lock = path.open("a+")
    except OSError as error:
        raise CannotServe(
            f"DAYBOOK_DATA_DIR: {error.filename} can't be written: {error.strerror}; name another folder"
        ) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotServe(_already_running(file, folder)) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "address": address}, file)
        file.flush()
        yield
        file.truncate(0)


def _already_running(file: IO[str], folder: Path) -> str:
    file.seek(0)
    try:
        match json.load(file):
            case {"address": address, "pid": pid}:
                pass
            case _:
                raise ValueError("not what we write")
    except ValueError:
        return f"Daybook is just starting or stopping with the data in {folder}; try again in a moment."
    return (
        f"Daybook is already running with the data in {folder.resolve()}: {address} (process {pid}).\n"
        f"Use that one, stop it (Ctrl-C there, or kill {pid}), or set DAYBOOK_DATA_DIR to another folder."
    )


def _check_free(host: str, port: int) -> None:
    """Raise `CannotServe` if the address can't be listened on: better now than after the database is up."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except (OSError, UnicodeError) as error:
        how = "--host" if _no_such_host(error) else "--port (make run PORT=…)"
        raise CannotServe(f"Can't listen on {host}:{port}: {_reason(error)}. Choose another with {how}.") from error


def _no_such_host(error: OSError | UnicodeError) -> bool:
    unknown = isinstance(error, socket.gaierror | UnicodeError)
    return unknown or (isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL)


def _reason(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "it can't be a host's name"


def _greet(settings: Settings, address: str) -> None:
    """Print the address and how to try it, once the server answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _STARTUP_SECONDS
    while time.monotonic() < deadline:
        try:
            with direct.open(f"{address}/livez", timeout=1):
                break
        except OSError:
            time.sleep(0.05)
    else:
        return
    say_unbuffered(_greeting(settings, address))


def _greeting(settings: Settings, address: str) -> str:
    greeting = f"\nDaybook is running at {address}, its documentation at {address}/docs. Ctrl-C stops it.\n"
    if settings.jwks_url:
        greeting += f"\nIt takes the tokens whose keys are at {settings.jwks_url}\n"
    if settings.signing_secret is None:
        return greeting
    if settings.jwt_secret:  # a token of the real key must not stay in a terminal
        return f"{greeting}\nFor a token to try it with, by the same settings: {_command()} token USER\n"
    token = sign(settings, DEMO_USER, until=datetime.now(UTC) + _DEMO_TTL)
    if settings.serves_web and not settings.web_login_url:
        link = f"{address}/ui/#token={token}"
        greeting += f"\nOpen its page as the user {DEMO_USER}; the link is good for a day:\n\n{link}\n"
    return f"""{greeting}
A token for the user {DEMO_USER}, good for a day (more: {_command()} token USER):

{token}

Create a task:

curl -sw '\\n' {address}/api/{DEMO_USER}/tasks -H 'Content-Type: application/json' -d '{{"title": "Buy milk"}}' \\
  -H 'Authorization: Bearer {token}'
"""


def _command() -> str:
    """Return the name by which this program was called, to be typed again from its working folder."""
    return sys.argv[0] if Path(sys.argv[0]).name == "daybook" else "daybook"
