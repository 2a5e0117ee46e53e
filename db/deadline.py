"""The deadline of a request: one bound for all of its waiting and all of its statements together."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Deadline:
    """A deadline that can be lifted in all tasks of a request at once."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at: float | None = at


_deadline: ContextVar[_Deadline | None] = ContextVar("_deadline", default=None)
"""Deadline of the request that this task works for. Tasks that outlive a request are made in an empty context."""


def begin(seconds: float) -> None:
    """Have the request that this task works for end in `seconds`."""
    _deadline.set(_Deadline(_now() + seconds))


def lift() -> None:
    """Have the request's work no longer bound as a whole, but each statement with its wait for a connection."""
    if deadline := _deadline.get():
        deadline.at = None


@contextmanager
def lifted(seconds: float) -> Iterator[None]:
    """Lift the deadline for the block. Afterwards, the request has `seconds` from then on, if it had a deadline."""
    deadline = _deadline.get()
    if deadline is None or deadline.at is None:
        yield
        return
    deadline.at = None
    try:
        yield
    finally:
        deadline.at = _now() + seconds


def current() -> float | None:
    """Return the deadline, as a time of the event loop's clock; `None` if there is none."""
    deadline = _deadline.get()
    return None if deadline is None else deadline.at


def at_most(seconds: float) -> float:
    """Return the time in `seconds`, or the deadline if that is earlier."""
    at, own = current(), _now() + seconds
    return own if at is None else min(at, own)


def before(at: float, seconds: float) -> float:
    """Return the time that is `seconds` before `at`, or half of the way there if that is later."""
    return max(at - seconds, (_now() + at) / 2)


@contextmanager
def until(at: float | None) -> Iterator[None]:
    """Give the block a deadline of its own; `None` for none."""
    token = _deadline.set(None if at is None else _Deadline(at))
    try:
        yield
    finally:
        _deadline.reset(token)


def _now() -> float:
    return asyncio.get_running_loop().time()
