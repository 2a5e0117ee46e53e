"""The drill runs to its end on a Citus cluster, and reports lost writes."""

import asyncpg
import httpx2
import pytest

from bench.drill import Request, User, main
from bench.load import Author, load
from db.dsn import connect_arguments
from tests.conftest import needs_citus, on_plain_postgres


@needs_citus
def test_rows_that_are_deleted_under_load_are_rebuilt_and_no_write_is_lost(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.delenv("DATABASE_URL_DIRECT", raising=False)
    status = main(["rebuild", "--rounds", "1", "--users", "4"])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    assert "clean: True" in printed.out


@on_plain_postgres
def test_a_database_that_is_no_cluster_is_refused_with_a_sentence(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    assert main(["rebuild"]) == 1
    assert "FAILED: DATABASE_SHARDED is true" in capsys.readouterr().err


async def test_a_write_that_was_lost_or_made_twice_is_told(database: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(database))
    async with httpx2.AsyncClient() as client:
        await load(connection, Author("ann"), 3)
        rows = await connection.fetch("SELECT task_id, version FROM events WHERE user_id = 'ann'")
        logged = [(str(task), version) for task, version in rows]
        ann = User("ann", affected=False, keyed=False, client=client, acknowledged=logged)
        assert await ann.lost(connection) == []
        ann.acknowledged = logged[:2]
        assert await ann.lost(connection) == ["ann: 1 events more than writes"]
        ann.requests = [Request(0, 1, 503, in_doubt=True)]
        assert await ann.lost(connection) == []
        ann.acknowledged = [*logged, logged[0]]
        [lost] = await ann.lost(connection)
        assert lost == f"ann: acknowledged, and not in the log: {{{logged[0]}: 1}}"
    await connection.close()
