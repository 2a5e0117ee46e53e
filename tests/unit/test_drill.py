"""The drill tells a promise that was kept from one that was broken."""

from dataclasses import replace

import httpx2
import pytest

from bench.drill import Request, Round, User

KEPT = Round(
    "freeze",
    began=0,
    over=15,
    affected=[
        Request(0, 0.1, 200),
        Request(0, 9.1, 503, in_doubt=True),
        Request(0, 10, 503, retry_after=True),
        Request(11.5, 12, 503, retry_after=True),
    ],
    others=[Request(0, 0.1, 201), Request(0, 0.2, 200)],
    back=0.1,
)


def test_a_round_in_which_all_promises_were_kept_is_without_a_fault() -> None:
    assert KEPT.violations == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(1, 2, 503), "1 times 503 had no Retry-After"),
        (Request(1, 2, 500), "the server's users got {500}"),
        (Request(1, 2, 0), "the server's users got {0}"),
        (Request(1, 12.5, 200), "a response took 11.50 s"),
        (Request(11.5, 13, 503, retry_after=True), "later, a response took 1.50 s"),
    ],
)
def test_what_the_broken_servers_users_must_not_see_is_told(request_: Request, said: str) -> None:
    assert replace(KEPT, affected=[*KEPT.affected, request_]).violations == [said]


def test_a_killed_servers_users_must_be_answered_within_two_seconds() -> None:
    in_time = [Request(0, 0.1, 503, retry_after=True), Request(5, 6.9, 503, retry_after=True)]
    assert replace(KEPT, fault="kill", affected=in_time).violations == []
    late = Request(5, 7.1, 503, retry_after=True)
    assert replace(KEPT, fault="kill", affected=[*in_time, late]).violations == ["a response took 2.10 s"]


def test_a_fault_that_nobody_noticed_is_told() -> None:
    unnoticed = replace(KEPT, affected=KEPT.affected[:1]).violations
    assert unnoticed == ["no request was refused: does --break stop the server?"]


@pytest.mark.parametrize("status", [0, 404, 503])
def test_other_users_must_not_notice(status: int) -> None:
    assert replace(KEPT, others=[Request(0, 1, status)]).violations == [f"other users got {{{status}: 1}}"]


def test_a_task_may_be_missing_while_rows_are_rebuilt() -> None:
    missing = replace(KEPT, fault="rebuild", affected=[], others=[Request(0, 1, 404)])
    assert missing.violations == []
    assert replace(missing, fault="move").violations == ["other users got {404: 1}"]


@pytest.mark.parametrize(
    ("keyed", "headers", "expected"),
    [
        (False, {}, Request(0, 0, 503, in_doubt=True)),
        (False, {"Retry-After": "1"}, Request(0, 0, 503, retry_after=True)),
        (True, {}, Request(0, 0, 503)),
    ],
)
async def test_only_a_write_without_a_key_may_be_in_doubt(
    keyed: bool, headers: dict[str, str], expected: Request
) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(503, headers=headers))
    async with httpx2.AsyncClient(transport=transport, base_url="http://daybook.test") as client:
        user = User("ann", affected=True, keyed=keyed, client=client)
        await user._send("POST", "", "a-key" if keyed else None)
    assert [replace(each, sent=0, ended=0) for each in user.requests] == [expected]
