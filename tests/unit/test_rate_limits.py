"""Buckets of tokens, shared by processes through a file."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import rate_limits
from api.problems import RateLimitExceeded
from api.rate_limits import Buckets, Limits
from config.rates import Rate, Rates, parse_rates

SECOND = 1_000_000_000


class Clock:
    now = 7 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic_ns", clock)
    return clock


@pytest.fixture
def buckets(tmp_path: Path) -> Iterator[Buckets]:
    buckets = Buckets(tmp_path / "rate_limits", longest=60)
    yield buckets
    buckets.close()


def test_a_burst_is_taken_and_then_one_at_a_time(buckets: Buckets, clock: Clock) -> None:
    rate = Rate(3, 30)
    assert [buckets.take("ann", rate)[:3] for _ in range(3)] == [(True, 2, 10), (True, 1, 20), (True, 0, 30)]
    assert buckets.take("ann", rate) == (False, 0, 30, 10)
    assert buckets.take("bob", rate).allowed
    clock.now += 9 * SECOND
    assert buckets.take("ann", rate) == (False, 0, 21, 1)
    clock.now += SECOND
    assert buckets.take("ann", rate).allowed
    assert not buckets.take("ann", rate).allowed
    clock.now += 1000 * SECOND
    assert [buckets.take("ann", rate).allowed for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.integers(0, 3 * SECOND), max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_no_stretch_of_time_has_more_than_a_burst_and_what_flows_in(
    tmp_path_factory: pytest.TempPathFactory, pauses: list[int], requests: int, seconds: int
) -> None:
    buckets = Buckets(tmp_path_factory.mktemp("limits") / "rate_limits", longest=seconds)
    clock = Clock()
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic_ns", clock)
        for pause in pauses:
            clock.now += pause
            if buckets.take("ann", Rate(requests, seconds)).allowed:
                taken.append(clock.now)
    buckets.close()
    for first, start in enumerate(taken):
        for number, end in enumerate(taken[first:], 1):
            assert number <= requests + (end - start) * requests / (seconds * SECOND) + 1e-6
    if pauses:
        assert taken  # the first is always let in


def test_processes_share_a_file(tmp_path: Path, buckets: Buckets, clock: Clock) -> None:  # noqa: ARG001
    other = Buckets(tmp_path / "rate_limits", longest=60)
    rate = Rate(5, 60)
    assert [each.take("ann", rate).allowed for each in (buckets, other) * 3] == [True] * 5 + [False]
    other.close()


def test_times_of_before_a_restart_of_the_machine_do_not_count(buckets: Buckets, clock: Clock) -> None:
    rate = Rate(1, 60)
    assert buckets.take("ann", rate).allowed
    assert not buckets.take("ann", rate).allowed
    clock.now = -60 * SECOND  # the monotonic clock begins anew
    assert buckets.take("ann", rate).allowed


def test_times_of_before_a_restart_of_the_machine_take_no_place(
    buckets: Buckets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_GROUPS", 1)  # eight places
    rate = Rate(2, 60)
    clock.now = 10**6 * SECOND
    for number in range(8):
        buckets.take(f"user {number}", rate)
    clock.now = SECOND
    assert [buckets.take(key, rate).allowed for key in ("ann", "bob") * 3] == [True] * 4 + [False] * 2


def test_a_file_that_is_cut_off_has_full_buckets(tmp_path: Path, buckets: Buckets, clock: Clock) -> None:  # noqa: ARG001
    rate = Rate(1, 60)
    for _ in range(2):
        assert [buckets.take("ann", rate).allowed for _ in range(2)] == [True, False]
        os.truncate(tmp_path / "rate_limits", 0)


def test_all_of_the_file_is_reserved_at_once(tmp_path: Path, buckets: Buckets) -> None:
    rate = Rate(1, 60)
    assert (tmp_path / "rate_limits").stat().st_size == 1024**2
    assert buckets.take("ann", rate).allowed
    other = Buckets(tmp_path / "rate_limits", longest=60)
    assert not other.take("ann", rate).allowed  # what was there stays
    other.close()


def test_a_key_that_finds_no_place_takes_the_fullest_ones(
    buckets: Buckets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_GROUPS", 1)  # eight places
    rate = Rate(10, 60)
    for _ in range(10):
        buckets.take("ann", rate)
    for number in range(50):
        clock.now += 1
        assert buckets.take(f"user {number}", rate).left == 9
    assert not buckets.take("ann", rate).allowed


@pytest.mark.parametrize(
    ("addresses", "limited"),
    [
        (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], [False, True, True]),
        (["192.0.2.1", "192.0.2.2"], [False, False]),
        (["2001:db8::1", "2001:db8::2:0:0:9", "2001:db8:0:1::1"], [False, True, False]),
        (["fe80::1%eth0", "fe80::2%eth1"], [False, True]),
        (["unknown", "unknown", "hidden"], [False, True, False]),
    ],
)
async def test_a_network_of_ipv6_counts_as_one_address(
    buckets: Buckets, addresses: list[str], limited: list[bool]
) -> None:
    limits = Limits(Rates(address=Rate(1, 60)), buckets)
    found = []
    for address in addresses:
        try:
            await limits.admit_address({"state": {}}, address)
            found.append(False)
        except RateLimitExceeded:
            found.append(True)
    assert found == limited


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("user:300/60", Rates(user=Rate(300, 60))),
        ("address:1/1", Rates(address=Rate(1, 1))),
        (" user:3/60 , address:9/60", Rates(Rate(3, 60), Rate(9, 60))),
    ],
)
def test_rates_are_read(text: str, rates: Rates) -> None:
    assert parse_rates(text) == rates


@pytest.mark.parametrize(
    "text", ["300", "user:300", "user:0/60", "user:1/0", "users:1/1", "user:1/1,user:2/2", "user:1/1,", "user:\uff11/1"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="user:300/60,address:1200/60"):
        parse_rates(text)
