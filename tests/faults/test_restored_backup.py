"""A database restored from a backup: tags and keys from after the backup are never taken for new ones."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from db.embedded import binaries
from tests.conftest import execute, named
from tests.faults.servers import Postgres, service, verified
from tests.service import TASKS, bearer

pytestmark = pytest.mark.once


@contextmanager
def client(folder: Path, dsn: str) -> Iterator[httpx2.Client]:
    with service(folder, dsn) as serving:
        serving.wait_until_ready()
        with httpx2.Client(base_url=serving.url, headers=bearer()) as client:
            yield client
        serving.stop()


def run(program: str, *arguments: str) -> None:
    subprocess.run([binaries() / program, *arguments], check=True, timeout=60)


async def test_a_tag_from_before_a_restore_is_never_taken_for_what_came_after_it(folder: Path) -> None:
    dump = str(folder / "backup")
    with Postgres(folder) as postgres:
        with client(folder, postgres.dsn) as before:
            path = before.post(TASKS, json={"title": "Buy milk"}).headers["location"]
            before.patch(path, json={"title": "Buy oat milk"})
            run("pg_dump", "--format=custom", f"--file={dump}", postgres.dsn)
            lost = before.patch(path, json={"title": "Buy soy milk"})
            tag, list_tag = lost.headers["etag"], before.get(TASKS).headers["etag"]
        await execute(postgres.dsn, "CREATE DATABASE restored")
        restored = named(postgres.dsn, "restored")
        run("pg_restore", "--no-owner", f"--dbname={restored}", dump)
        with client(folder, restored) as after:
            there = after.patch(path, json={"title": "Buy rice milk"})
            assert lost.json()["version"] == there.json()["version"] == 3

            def ask(method: str, path: str, header: str, value: str, body: Any = None) -> int:
                return after.request(method, path, json=body, headers={header: value}).status_code

            known = {
                (method, each): ask(method, each, "If-None-Match", tag)
                for method in ("GET", "HEAD")
                for each in (path, f"{path}?version=3", f"{path}?as_of=2100-01-01T00:00:00Z")
            }
            known |= {
                (method, each): ask(method, each, "If-None-Match", list_tag)
                for method in ("GET", "HEAD")
                for each in (TASKS, f"{TASKS}?as_of=2100-01-01T00:00:00Z")
            }
            assert set(known.values()) == {200}, known
            changed = {
                "get": ask("GET", path, "If-Match", tag),
                "list": ask("GET", TASKS, "If-Match", list_tag),
                "create": ask("POST", TASKS, "If-Match", list_tag, {"title": "x"}),
                "restore": ask("POST", f"{path}/restore", "If-Match", tag, {"version": 1}),
                "complete": ask("PATCH", f"{path}/complete", "If-Match", tag),
                "patch": ask("PATCH", path, "If-Match", tag, {"title": "x"}),
                "put": ask("PUT", path, "If-Match", tag, {"title": "x"}),
                "delete": ask("DELETE", path, "If-Match", tag),
            }
            assert set(changed.values()) == {412}, changed
            assert after.get(path).json() == there.json()
            # A version alone means what it says: this number, whatever it is of.
            assert ask("GET", path, "If-None-Match", '"3"') == 304
            assert ask("PUT", path, "If-Match", '"3"', {"title": "x"}) == 200
        assert verified(folder, restored)


async def test_a_copy_from_before_a_restore_is_never_brought_up_to_date_by_what_came_after_it(folder: Path) -> None:
    dump = str(folder / "backup")
    with Postgres(folder) as postgres:
        with client(folder, postgres.dsn) as before:
            path = before.post(TASKS, json={"title": "Buy milk"}).headers["location"]
            early = before.get(f"{TASKS}/changes").json()["next"]
            run("pg_dump", "--format=custom", f"--file={dump}", postgres.dsn)
            before.patch(path, json={"title": "Buy soy milk"})
            late = before.get(f"{TASKS}/changes", params={"since": early}).json()["next"]
        await execute(postgres.dsn, "CREATE DATABASE restored")
        restored = named(postgres.dsn, "restored")
        run("pg_restore", "--no-owner", f"--dbname={restored}", dump)
        with client(folder, restored) as after:
            tokens = {"since": early}, {"since": late}
            assert [after.get(f"{TASKS}/changes", params=each).status_code for each in tokens] == [200, 410]
            changed = after.patch(path, json={"title": "Buy rice milk"}).json()
            assert [after.get(f"{TASKS}/changes", params=each).status_code for each in tokens] == [200, 410]
            assert after.get(f"{TASKS}/changes", params=tokens[0]).json()["tasks"] == [changed]
