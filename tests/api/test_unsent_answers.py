"""Unsent parts of long answers are bounded in memory."""

import asyncio
import socket

import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from api.problems import Overloaded
from api.server import unsent
from api.server.unsent import UnsentAnswers
from tests.arrange import busy_loop, until
from tests.service import listening
from tests.sockets import GET, connected

pytestmark = pytest.mark.once


def nothing() -> None:
    pass


def refused() -> float:
    return REGISTRY.get_sample_value("daybook_database_refusals_total", {"reason": "user_overloaded"}) or 0


def test_a_user_has_a_share_and_at_least_one_answer() -> None:
    before = refused()
    answers = UnsentAnswers(most=1000, most_of_user=100)
    first = answers.begin("ann", 500, nothing, 0)
    with pytest.raises(Overloaded):
        answers.check("ann")
    with pytest.raises(Overloaded):
        answers.begin("ann", 1, nothing, 0)
    answers.check("bob")
    answers.begin("bob", 60, nothing, 0)
    with pytest.raises(Overloaded):
        answers.begin("bob", 60, nothing, 0)
    assert refused() == before + 3
    answers.end(first)
    answers.end(first)  # once is enough
    answers.check("ann")
    answers.begin("ann", 100, nothing, 0)
    assert answers.bytes == 160


def test_room_is_made_by_ending_the_slowest_reader() -> None:
    answers = UnsentAnswers(most=100, most_of_user=100)
    ended: list[str] = []
    for user, taken in (("ann", 30), ("bob", 10), ("cat", 20)):
        answers.begin(user, 33, lambda user=user: ended.append(user), 0).taken = taken  # type: ignore[misc]
    answers.begin("dan", 50, nothing, 10)
    assert ended == ["bob", "cat"]
    assert answers.bytes == 33 + 50


def test_answers_that_have_just_begun_are_not_ended() -> None:
    answers = UnsentAnswers(most=100, most_of_user=100)
    answers.begin("ann", 80, pytest.fail, 10)
    with pytest.raises(Overloaded):
        answers.begin("bob", 80, nothing, 10.5)


def test_a_write_that_is_done_is_answered_all_the_same() -> None:
    answers = UnsentAnswers(most=100, most_of_user=50)
    answers.begin("ann", 50, pytest.fail, 10)
    answers.begin("ann", 40, pytest.fail, 10, done=True)
    answers.begin("bob", 40, pytest.fail, 10.5, done=True)
    assert answers.bytes == 130
    with pytest.raises(Overloaded):
        answers.check("ann")
    ended: list[None] = []
    answers = UnsentAnswers(most=100, most_of_user=100)
    answers.begin("ann", 80, lambda: ended.append(None), 10)
    answers.begin("bob", 40, pytest.fail, 20, done=True)
    assert (len(ended), answers.bytes) == (1, 40)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> UnsentAnswers:
    fresh = UnsentAnswers(most=30_000_000, most_of_user=30_000_000)
    monkeypatch.setattr(unsent, "_unsent", fresh)
    return fresh


async def long_list(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["requester"] = scope["path"]
    await unsent.response(b"x" * 20_000_000, {}, "application/json")(scope, receive, send)


async def test_a_list_that_is_read_arrives_whole(answers: UnsentAnswers) -> None:
    async with listening(long_list) as port, connected(port) as connection:
        await connection.send(GET * 2)
        for _ in range(2):
            assert (await connection.answer()).body == b"x" * 20_000_000
        await until(lambda: answers.bytes == 0)


@pytest.mark.parametrize("end", ["closed", "slow", "idle"])
async def test_a_list_that_is_not_read_counts_until_its_connection_ends(
    answers: UnsentAnswers, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    loop = asyncio.get_running_loop()
    async with listening(long_list) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, GET)
            await until(lambda: answers.bytes == 20_000_000)
            if end == "closed":
                client.close()
            elif end == "slow":  # whatever it takes now is too late
                monkeypatch.setattr(unsent, "_GRACE", 0)
                monkeypatch.setattr(unsent, "_SLOWEST", 2**40)
                while answers.bytes:
                    await loop.sock_recv(client, 65536)
                    await asyncio.sleep(0.001)
            else:
                next(iter(answers._answers)).abort()
            await until(lambda: answers.bytes == 0)


@pytest.mark.usefixtures("answers")
async def test_one_or_two_slices_of_an_answer_are_buffered() -> None:
    loop = asyncio.get_running_loop()
    sent = 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: dict[str, object]) -> None:
            nonlocal sent
            await send(message)
            sent += len(message.get("body", b""))  # type: ignore[arg-type]

        await long_list(scope, receive, count)  # type: ignore[arg-type]

    async with listening(counting) as port:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            await loop.sock_sendall(client, GET)
            await until(lambda: sent > 0)
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 10_000_000  # the kernel takes some MB


async def test_others_have_turns_while_a_list_is_read_as_fast_as_it_is_written() -> None:
    sent = 0

    async def send(message: Message) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    response = unsent.response(b"x" * 4_000_000, {}, "application/json")
    async with busy_loop() as loop:
        await response({"state": {"requester": "ann"}}, receive, send)
    assert sent == 4_000_000
    assert loop.turns > 3
