"""Results and progress of verify and rebuild, for people and for machines."""

import sys
import time
from collections import Counter
from dataclasses import asdict, replace

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import note, say, shown
from cli.worker import Job, Result
from events.integrity.mismatch import Mismatch, Value

_PLAIN_SECONDS = 10
"""Seconds between two lines of progress without a terminal."""

_OPENING = '{"mismatches":['
"""Beginning of the JSON result. It waits for the first mismatch or the end: a failure before leaves nothing half."""


class Results:
    """A `cli.parallel.Receiver`: mismatches to stdout as they come, progress to stderr, and totals at the end."""

    def __init__(self, job: Job, *, as_json: bool) -> None:
        self.job = job
        self._json = as_json
        self._tables: Counter[str] = Counter()
        self._users: set[str] = set()
        self._totals: Counter[str] = Counter()
        self._began = time.perf_counter()
        self._progress = _Bar(job) if sys.stderr.isatty() else _Lines(job)

    def begin(self, events: int | None) -> None:
        self._progress.begin(events)

    def add(self, result: Result) -> None:
        if result.mismatches:
            self._progress.hide()
        for mismatch in result.mismatches:
            if self._json:
                say(("," if self._tables else _OPENING) + "\n" + orjson.dumps(mismatch, default=str).decode(), end="")
            else:
                say(_for_people(mismatch))
            self._tables[mismatch.table] += mismatch.more or 1
            self._users.add(mismatch.user_id)
        figures = asdict(replace(result, mismatches=[]))
        del figures["mismatches"]
        self._totals.update(figures)
        self._progress.advance(result.events)

    def stopping(self) -> None:
        note("Finishing what is under way; once more stops it at once.")

    def end(self, *, cut_short: str | None = None) -> None:
        """Print the totals, unless there is nothing in them but `cut_short`, the reason of an early end."""
        self._progress.hide()
        seconds = time.perf_counter() - self._began
        if self._json:
            figures = {**self._totals, "seconds": round(seconds, 3), "cut_short": cut_short}
            clean = not self.mismatches and cut_short is None
            say(("" if self._tables else _OPENING) + "]," + orjson.dumps({"clean": clean, **figures}).decode()[1:])
            return
        if cut_short is None or not self.nothing:
            total = self._sum(whole=cut_short is None)
            say(f"{total} {seconds:.1f} s, {self._totals['events'] / seconds:,.0f} events/s.")

    @property
    def mismatches(self) -> int:
        return self._tables.total()

    @property
    def users(self) -> int:
        return self._totals["users"]

    @property
    def nothing(self) -> bool:
        """Say whether there was nothing at all to check."""
        return not any(number for what, number in self._totals.items() if what != "users") and not self.mismatches

    def _sum(self, *, whole: bool) -> str:
        total = self._totals
        read = f"{_counted(total['users'], 'user')}, {_counted(total['events'], 'event')}"
        mendable, log = self._tables["tasks"], self.mismatches - self._tables["tasks"]
        if self.job == "verify":
            read = f"{read}, {_counted(total['tasks'], 'task')}"
            if not self.mismatches and not total["users"]:
                return f"{read}: there was nothing to look at."
            if not self.mismatches:
                return f"{read}: no mismatch{'' if whole else ' so far'}."
            found = [f"{_counted(mendable, 'mismatch', 'es')} in tasks (`daybook rebuild`)"] if mendable else []
            found += [f"{_counted(log, 'mismatch', 'es')} in the log ({_GUIDE})"] if log else []
            return f"{read}: {' and '.join(found)}."
        written, removed, right = total["written"], total["removed"], total["right"]
        lines = [f"{read}: {_counted(written, 'row')} written, {removed:,} removed, {right:,} already right."]
        if log:
            left = _counted(len(self._users), "user")
            lines.insert(0, f"{left} left alone, since their log isn't as it was written: see {_GUIDE}.")
        if total["unverified"]:
            unverified = _counted(total["unverified"], "user")
            lines.insert(0, f"{unverified} had no rows, and their log wasn't verified: `daybook verify` does that.")
        return "\n".join(lines)


_GUIDE = "docs/guides/rebuild.md"


def _counted(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}" + ("" if number == 1 else plural)


def _for_people(mismatch: Mismatch) -> str:
    told = f"{shown(mismatch.user_id)}: {shown(mismatch.message)}"
    if mismatch.found is None and mismatch.expected is None:
        return told
    return f"{told} ({mismatch.field}: found {_value(mismatch.found)}, expected {_value(mismatch.expected)})"


def _value(value: Value) -> str:
    return orjson.dumps(value).decode()


class _Bar:
    """A progress bar with the rate and the time that is left."""

    def __init__(self, job: Job) -> None:
        self._progress = Progress(
            TextColumn(job),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # it would wrap lines that are to be copied
        )
        self._task = self._progress.add_task(job, total=None, rate="")
        self._done, self._began = 0, time.perf_counter()

    def begin(self, events: int | None) -> None:
        self._progress.update(self._task, total=events)
        self._progress.start()

    def advance(self, events: int) -> None:
        self._done += events
        rate = self._done / (time.perf_counter() - self._began)
        self._progress.update(self._task, completed=self._done, rate=f"{rate:,.0f}/s")
        self._progress.start()

    def hide(self) -> None:
        """Make room for a line; the next step, if there is one, shows the bar again."""
        self._progress.stop()


class _Lines:
    """Progress in plain lines, at intervals."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._done, self._total = 0, 0
        self._began = self._told = time.perf_counter()

    def begin(self, events: int | None) -> None:
        self._total = events or 0

    def advance(self, events: int) -> None:
        self._done += events
        now = time.perf_counter()
        if now - self._told < _PLAIN_SECONDS:
            return
        self._told = now
        rate = self._done / (now - self._began)
        told = f"{self._job}: {self._done:,} events, {rate:,.0f} a second"
        if self._total and rate:
            told += f", of {self._total:,}; {max(self._total - self._done, 0) / rate:,.0f} s left"
        note(told)

    def hide(self) -> None:
        pass
