"""The drill runs to its end on a Citus cluster, and finds what it left in order."""

import pytest

from bench.drill import main
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
