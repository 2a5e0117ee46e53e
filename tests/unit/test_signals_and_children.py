"""Handlers of signals, and the environment of children, are afterwards as they were before."""

import os
import signal

import pytest

from cli.children import starting_children
from db.deferred_signals import deferred_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = signal.getsignal
    before = [handlers(each) for each in SIGNALS]
    monkeypatch.setattr(signal, "getsignal", lambda each: None if each == signal.SIGHUP else handlers(each))
    with deferred_signals():
        assert [handlers(each) == was for each, was in zip(SIGNALS, before, strict=True)] == [False, False, True]
    assert [handlers(each) for each in SIGNALS] == before


@pytest.mark.parametrize("value", [None, "", "1"])
def test_a_childs_safe_path_is_not_the_parents(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", value)
    with starting_children():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONSAFEPATH") == value
