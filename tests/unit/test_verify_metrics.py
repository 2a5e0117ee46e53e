"""The last results of verify, as the service's metrics have them."""

import json
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from config.logs import once
from telemetry.metrics import VERIFIED, all_metrics, note_verified

FORMER = {"last_timestamp_seconds": 1.5, "complete": True, "users": 1, "differences": 0}


@pytest.fixture(autouse=True)
def _nothing_was_said_before() -> None:
    once.cache_clear()


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "\N{PILCROW SIGN}", "[]", "7", '{"all": 7}', '{"all": {}}', json.dumps({"all": FORMER}),
        json.dumps({"all": {**FORMER, "mismatches": None}}), json.dumps({"all": {**FORMER, "mismatches": "none"}}),
        json.dumps({"all": {**FORMER, "mismatches": 10**400}}), "\udcff",
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_understood_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / VERIFIED).write_text(content, errors="surrogateescape")
    metrics = all_metrics(tmp_path)
    with capture_logs() as logged:
        for _ in range(2):
            assert "daybook_verify" not in generate_latest(metrics).decode()
    assert [line["log_level"] for line in logged] == ["warning"]
    note_verified(tmp_path, "sample", complete=True, users=2, mismatches=0)
    assert 'daybook_verify_users{scope="sample"} 2.0' in generate_latest(metrics).decode()


def test_no_result_is_nothing_to_tell(tmp_path: Path) -> None:
    with capture_logs() as logged:
        assert "daybook_verify" not in generate_latest(all_metrics(tmp_path)).decode()
    assert not logged
