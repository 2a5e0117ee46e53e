"""Run the Next.js example with all that it needs, Postgres, Daybook and the app, until Ctrl-C (`make example`)."""

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from config.errors import CannotRun
from config.settings import load
from db.dsn import connect_arguments
from db.embedded import database

APP = Path(__file__).parent / "next"
NEXT = ("node", "node_modules/next/dist/bin/next")
USERS = "better_auth"
"""The database of Better Auth's users and sessions. It is on Daybook's server, and apart from its log."""


def run(port: int, daybook_port: int, *, build: bool) -> None:
    """Start everything, and wait for Ctrl-C. Raises `CannotRun` if a part ends by itself."""
    with variables_of_app(port, daybook_port) as variables:
        url, daybook_url = variables["BETTER_AUTH_URL"], variables["DAYBOOK_URL"]
        if build:
            with child((*NEXT, "build"), variables, APP) as building:
                if building.wait():
                    raise CannotRun("The app couldn't be built; the lines above say why.")
        serve = (sys.executable, "-m", "cli", "serve", "--port", str(daybook_port))
        start = (*NEXT, "start", "--hostname", "localhost", "--port", str(port))
        with child(serve, {"BETTER_AUTH_URL": url}) as daybook, child(start, variables, APP) as app:
            wait_until_both_answer(url, daybook_url, (daybook, app))
            print(f"\nThe app is running at {url}. Ctrl-C stops it, Daybook and Postgres.\n", flush=True)
            while daybook.poll() is None and app.poll() is None:
                time.sleep(0.2)
            raise CannotRun("A part has ended by itself; the lines above say why.")


@contextmanager
def variables_of_app(port: int, daybook_port: int) -> Iterator[dict[str, str]]:
    """Yield what the app needs in its environment. Its database runs for the block's length at least."""
    settings = load()
    folder = settings.made_data_dir
    with database(settings.service_url, folder) as dsn:
        yield {
            "BETTER_AUTH_URL": f"http://localhost:{port}",
            "BETTER_AUTH_SECRET": kept_secret(folder / "better_auth_secret"),
            "DATABASE_URL": asyncio.run(database_of_users(dsn)),
            "DAYBOOK_URL": f"http://127.0.0.1:{daybook_port}",
            "NEXT_TELEMETRY_DISABLED": "1",
        }


def kept_secret(path: Path) -> str:
    """Return the secret in the file, which is made if it isn't there. Sessions survive a restart with it."""
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text()


async def database_of_users(dsn: str) -> str:
    """Make the database of users if there is none. Return its DSN."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        with suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f"CREATE DATABASE {USERS}")
    finally:
        await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{USERS}"))


@contextmanager
def child(
    command: Sequence[str], variables: Mapping[str, str], folder: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that Ctrl-C doesn't reach, so that processes end in order. Stop it at the end."""
    environment = {**os.environ, **variables}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until_both_answer(url: str, daybook_url: str, processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Wait until the app and Daybook can serve, or one of the processes has ended."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for address in (f"{daybook_url}/readyz", f"{url}/sign-in"):
        while all(process.poll() is None for process in processes):
            with suppress(OSError), direct.open(address, timeout=5):
                break
            time.sleep(0.1)


def interrupt(*_: object) -> None:
    """End all that runs, once: what stops must not be interrupted by a second Ctrl-C."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    raise KeyboardInterrupt


def main() -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=3000, help="the app's port")
    parser.add_argument("--daybook-port", type=int, default=8000)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--built", action="store_true", help="the app is built already")
    how.add_argument("--env", action="store_true", help="only print what an app of yours needs in its .env.local")
    options = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)
    try:
        if options.env:
            with variables_of_app(options.port, options.daybook_port) as variables:
                print("\n".join(f"{name}={value}" for name, value in variables.items()))
            return
        run(options.port, options.daybook_port, build=not options.built)
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    except CannotRun as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
