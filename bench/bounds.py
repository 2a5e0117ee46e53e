"""Bounds for the ratios that a comparison measures, and the table that marks the ones it missed."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.kinds import KINDS
from bench.load_generator import Setup, plural

Ratios = dict[str, Sequence[float]]
"""Measured ratios by line of the table, one for each round."""


def peer_line(kind: str, setup: Setup) -> str:
    """Name the line for the service's throughput divided by the peer's."""
    return f"{kind} / the peer's, {setup}"


def cpu_line(kind: str, setup: Setup) -> str:
    """Name the line for the service's processor time a request divided by the peer's."""
    return f"CPU of {kind} / the peer's, {setup}"


def append_line(connections: int) -> str:
    """Name the line for the rate of appends in pgbench divided by that of plain INSERTs."""
    return f"pgbench, {plural(connections, 'connection')}: append of one event / plain INSERT of it"


POOLER_LINE = f"create through PgBouncer / direct, {Setup(32)}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A line of the table, with the least or the most that its ratio may be. Without either, it is informative only."""

    line: str
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}"
        return "" if self.most is None else f"at most {self.most:g}"

    def met(self, ratio: float) -> bool:
        """Say if the ratio is within the bound."""
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)


def _bounds() -> Iterator[Bound]:
    writes = ("create", "toggle", "update", "delete")
    yield from (Bound(peer_line(kind, Setup(32)), 6 if kind == "create" else 5) for kind in writes)
    yield from (Bound(peer_line(kind, Setup(32, workers=2)), 4) for kind in writes)
    yield from (Bound(peer_line(kind, Setup(1)), 2.5) for kind in writes)
    yield Bound(POOLER_LINE, 0.85)
    yield Bound(append_line(32), 0.6)
    yield Bound(cpu_line("create", Setup(32)), most=0.25)
    yield from (Bound(peer_line(kind.name, Setup(32))) for kind in KINDS if kind.peer and kind.name not in writes)


BOUNDS = tuple(_bounds())


def table(ratios: Mapping[str, Sequence[float]]) -> str:
    """Return a Markdown table of all bounds. A line is marked if the median of its rounds misses the bound."""
    return "\n".join(("| | **ratio** | of the rounds | wanted | |", "|---|--:|--:|--:|---|", *_rows(ratios)))


def _rows(ratios: Mapping[str, Sequence[float]]) -> Iterator[str]:
    for bound in BOUNDS:
        if found := ratios.get(bound.line):
            ratio = statistics.median(found)
            mark = "" if bound.met(ratio) else "**MISSED**"
            yield f"| {bound.line} | **{ratio:.2f}** | {min(found):.2f} to {max(found):.2f} | {bound} | {mark} |"
        else:
            yield f"| {bound.line} | | | {bound} | not measured |"
