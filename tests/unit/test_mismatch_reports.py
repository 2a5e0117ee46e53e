"""A report limits what it lists of one user, work is split by events, and a terminal shows no control characters."""

import json
from dataclasses import asdict, replace
from uuid import UUID

import pytest

from cli import progress
from cli.main import _to_go_on
from cli.parallel import Choice
from cli.progress import Results
from cli.worker import Job
from events.integrity.mismatch import Mismatch, Mismatches
from events.integrity.rebuild import Rebuilt
from events.integrity.verify import Verified
from events.integrity.work_units import StreamSize, split


def mismatch(number: int) -> Mismatch:
    return Mismatch(table="tasks", user_id="ann", task_id=UUID(int=number), message=f"task {number}")


def test_a_thousand_mismatches_of_a_user_are_listed_and_the_others_counted() -> None:
    found = Mismatches("ann")
    found.add(mismatch(number) for number in range(1000))
    assert found.listed() == [mismatch(number) for number in range(1000)]
    found.add(mismatch(number) for number in range(234))
    *told, last = found.listed()
    assert told == [mismatch(number) for number in range(1000)]
    assert (last.user_id, last.more, last.message) == ("ann", 234, "234 more mismatches")


@pytest.mark.parametrize(
    ("events", "pieces"),
    [
        ([], []),
        ([5], [1]),
        ([50, 50, 1], [2, 1]),
        ([500, 1], [1, 1]),
        ([1, 500, 1], [1, 1, 1]),
        ([0] * 25, [10, 10, 5]),  # who has none weighs something, too
    ],
)
def test_work_is_split_by_events(events: list[int], pieces: list[int]) -> None:
    streams = [StreamSize(str(number), size) for number, size in enumerate(events)]
    split_up = list(split(streams, 100))
    assert [len(piece) for piece in split_up] == pieces
    assert [stream for piece in split_up for stream in piece] == streams


VERIFIED = Verified(users=1, events=40, tasks=3)
TITLE = Mismatch(
    table="tasks", user_id="ann\n", task_id=UUID(int=7), field="title", found="\x1b[2J",
    message="task t has another `title` than the log",
)  # fmt: skip
TOLD = """'ann\\n': task t has another `title` than the log (title: found "\\u001b[2J", expected null)"""


def test_people_get_a_line_each_and_a_sum(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0)
    told = Results("verify", as_json=False)
    told.begin(80)
    told.add(replace(VERIFIED, mismatches=[TITLE]))
    told.add(VERIFIED)
    told.end()
    out, err = capsys.readouterr()
    first, last = out.splitlines()
    assert first == TOLD
    assert last.startswith("2 users, 80 events, 6 tasks: 1 mismatch in tasks (`daybook rebuild`). ")
    assert [line.split(",")[0] for line in err.splitlines()] == ["verify: 40 events", "verify: 80 events"]
    assert "of 80; 0 s left" in err


@pytest.mark.parametrize("found", [[], [TITLE], [TITLE, TITLE]])
@pytest.mark.parametrize("cut_short", [None, "Stopped."])
def test_machines_get_one_object(
    found: list[Mismatch], cut_short: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Results("verify", as_json=True)
    told.begin(None)
    for each in found:
        told.add(replace(VERIFIED, mismatches=[each]))
    told.end(cut_short=cut_short)
    result = json.loads(capsys.readouterr().out)
    assert result["mismatches"] == [{**asdict(each), "task_id": str(each.task_id)} for each in found]
    assert (result["clean"], result["cut_short"]) == (not found and cut_short is None, cut_short)
    assert result.get("events", 0) == 40 * len(found)


@pytest.mark.parametrize(
    ("job", "choice", "after", "told"),
    [
        ("rebuild", Choice(), "o'hara", """To go on: daybook rebuild --start-after 'o'"'"'hara'"""),
        ("rebuild", Choice(), "", "Run it again."),
        ("rebuild", Choice(user="ann"), "bob", "Run it again."),
        ("verify", Choice(), "bob", "Run it again."),
    ],
)
def test_how_to_go_on(job: Job, choice: Choice, after: str, told: str) -> None:
    assert _to_go_on(job, choice, after) == told


def test_what_was_not_done_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    broken = replace(TITLE, table="events", more=4, message="4 more mismatches")
    verified = Results("verify", as_json=False)
    verified.add(replace(VERIFIED, mismatches=[TITLE, broken]))
    verified.end()
    assert ": 1 mismatch in tasks (`daybook rebuild`) and 4 mismatches in the log (docs/" in capsys.readouterr().out
    rebuilt = Results("rebuild", as_json=False)
    rebuilt.add(Rebuilt(users=2, events=9, written=1, right=2, unverified=3, mismatches=[broken]))
    rebuilt.end()
    _, unverified, alone, last = capsys.readouterr().out.splitlines()
    assert unverified == "3 users had no rows, and their log wasn't verified: `daybook verify` does that."
    assert alone.startswith("1 user left alone, since their log isn't as it was written: ")
    assert last.startswith("2 users, 9 events: 1 row written, 0 removed, 2 already right. ")
    stopped = Results("verify", as_json=False)
    stopped.add(VERIFIED)
    stopped.end(cut_short="Stopped.")
    assert ": no mismatch so far. " in capsys.readouterr().out


@pytest.mark.parametrize("job", ["verify", "rebuild"])
def test_an_end_before_anything_was_looked_at_has_no_sum(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    Results(job, as_json=False).end(cut_short="Stopped.")
    assert capsys.readouterr().out == ""
