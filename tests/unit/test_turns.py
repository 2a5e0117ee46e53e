"""Users take turns: a user who asks for much waits, and nobody else waits for them."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import DatabaseUnavailable, TooBusy
from db.turns import FairQueue, Turns, User

SERVER_OF = {"ann": 1, "amy": 1, "abe": 1, "bob": 2, "ben": 2, "bea": 2}
"""Servers of users, for tests with several. Others are of none that is known."""


def turns(number: int = 4, *, max_waiting: int = 10, timeout: float = 60, servers: bool = False) -> Turns:
    return Turns(number, max_waiting=max_waiting, timeout=timeout, server_of=SERVER_OF.get if servers else None)


async def waiting(turns: Turns, *users: User) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(turns.wait(user)) for user in users]
    await asyncio.sleep(0)
    return tasks


async def come(*tasks: asyncio.Task[None]) -> list[bool]:
    await asyncio.sleep(0)
    return [task.done() for task in tasks]


async def test_one_user_has_half_of_them_at_most() -> None:
    four = turns(4)
    assert [four.taken("ann") for _ in range(3)] == [True, True, False]
    assert [four.taken("bob") for _ in range(3)] == [True, True, False]
    assert not four.taken("cid")


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_and_one_at_least(number: int) -> None:
    few = turns(number)
    assert [few.taken("ann"), few.taken("ann")] == [True, False]


async def test_work_for_many_has_no_share_and_goes_first() -> None:
    two = turns(2)
    assert [two.taken(None), two.taken(None), two.taken(None)] == [True, True, False]
    ann, many = await waiting(two, "ann", None)
    two.give(None)
    assert await come(ann, many) == [False, True]
    two.give(None)
    assert await come(ann) == [True]


async def test_of_those_who_wait_the_one_with_the_fewest_is_next() -> None:
    four = turns(4)
    assert all(four.taken(user) for user in ("ann", "ann", "bob", "bob"))
    ann, bob, cid = await waiting(four, "ann", "bob", "cid")
    four.give("bob")
    assert await come(ann, bob, cid) == [False, False, True]
    four.give("ann")
    assert await come(ann, bob) == [True, False] or await come(ann, bob) == [False, True]


async def test_a_user_who_has_their_share_waits_while_turns_are_free() -> None:
    four = turns(4)
    assert four.taken("ann")
    assert four.taken("ann")
    first, second = await waiting(four, "ann", "ann")
    assert four.free
    assert await come(first, second) == [False, False]
    assert four.taken("bob")
    four.give("ann")
    assert await come(first, second) == [True, False]


async def test_a_full_queue_refuses_first_who_waits_with_most() -> None:
    one = turns(1, max_waiting=3)
    assert one.taken("ann")
    anns = await waiting(one, "ann", "ann", "ann")
    [bob] = await waiting(one, "bob")
    assert await come(*anns, bob) == [False, False, True, False]
    with pytest.raises(TooBusy, match="fewer"):
        await anns[2]
    with pytest.raises(TooBusy, match="3 requests"):
        await one.wait("ann")
    [cid] = await waiting(one, "cid")
    assert await come(*anns[:2], bob, cid) == [False, True, False, False]
    with pytest.raises(TooBusy, match="3 requests"):
        await one.wait("bob")  # everybody has one
    for task in (anns[0], bob, cid):
        task.cancel()
    await asyncio.gather(*anns, bob, cid, return_exceptions=True)


async def test_who_waits_for_too_long_is_refused() -> None:
    one = turns(1, timeout=0.1)
    assert one.taken("ann")
    with pytest.raises(TooBusy, match=r"no connection was free for 0\.1\d* s"):
        await one.wait("bob")
    one.give("ann")
    assert one.taken("bob")


async def test_everybody_can_be_refused() -> None:
    one = turns(1)
    assert one.taken("ann")
    tasks = await waiting(one, "ann", "bob", None)
    one.refuse_all(lambda: DatabaseUnavailable("gone"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3
    one.give("ann")
    assert one.taken("bob")


async def test_a_turn_that_comes_as_its_user_gives_up_is_given_on() -> None:
    one = turns(1)
    assert one.taken("ann")
    bob, cid = await waiting(one, "bob", "cid")
    one.give("ann")
    bob.cancel()
    await asyncio.gather(bob, return_exceptions=True)
    assert await come(cid) == [True]


async def test_a_lost_turn_comes_back() -> None:
    two = turns(2)
    assert two.taken("ann")
    two.lose("ann")
    assert two.taken("bob")
    assert not two.taken("cid")
    [cid] = await waiting(two, "cid")
    two.regain()
    assert await come(cid) == [True]


@pytest.mark.parametrize(("number", "share"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5)])
async def test_a_servers_users_have_half_of_them_together(number: int, share: int) -> None:
    some = turns(number, servers=True)
    while any(some.taken(user) for user in ("ann", "amy", "abe")):
        pass
    assert sum(some._held.values()) == share
    rest = number - share
    assert [some.taken(user) for user in ("bob", "ben", "bea")] == [rest > 0, rest > 1, rest > 2 and share > 2]


async def test_a_user_whose_server_is_full_waits_for_one_of_its_turns() -> None:
    four = turns(4, servers=True)
    assert [four.taken(user) for user in ("ann", "amy", "bob")] == [True, True, True]
    abe, ben = await waiting(four, "abe", "ben")
    assert await come(abe, ben) == [False, False]
    assert four.free
    four.give("bob")
    assert await come(abe, ben) == [False, True]
    four.give("amy")
    assert await come(abe) == [True]


async def test_a_user_of_an_unknown_server_has_any_that_is_free() -> None:
    two = turns(2, servers=True)
    assert [two.taken(user) for user in ("ann", "amy", "cid")] == [True, False, True]


async def test_a_servers_users_have_half_of_the_queue_and_who_has_most_there_is_refused_first() -> None:
    two = turns(2, max_waiting=4, servers=True)
    assert [two.taken("ann"), two.taken("bob")] == [True, True]
    ann, anns, amy, ben = await waiting(two, "ann", "ann", "amy", "ben")
    assert await come(ann, anns, amy, ben) == [False, True, False, False]
    with pytest.raises(TooBusy, match="for the server too"):
        await anns
    with pytest.raises(TooBusy, match="2 requests wait for the user's server"):
        await two.wait("abe")
    [bea] = await waiting(two, "bea")
    assert await come(ann, amy, ben, bea) == [False, False, False, False]
    with pytest.raises(TooBusy, match="4 requests wait for the database"):
        await two.wait("cid")
    two.refuse_all(lambda: DatabaseUnavailable("frozen"), server=1)
    assert await come(ann, amy, ben, bea) == [True, True, False, False]
    two.give("bob")
    two.give("ann")
    assert await come(ben, bea) == [True, False]  # the server's only one
    two.give("ben")
    await asyncio.gather(ann, amy, ben, bea, return_exceptions=True)


@given(
    st.lists(st.tuples(st.sampled_from(["take", "wait", "give", "cancel"]), st.integers(0, 5))),
    st.integers(1, 5),
    st.booleans(),
)
def test_none_is_free_while_somebody_waits_who_may_have_it(
    steps: list[tuple[str, int]], number: int, servers: bool
) -> None:
    async def follow() -> None:
        all_turns, held = turns(number, max_waiting=100, servers=servers), list[User]()
        tasks: dict[asyncio.Task[None], User] = {}
        users: list[User] = ["ann", "bob", "cid", None, "amy", "abe"]
        for what, which in steps:
            user = users[which]
            if what == "take" and all_turns.taken(user):
                held.append(user)
            elif what == "wait" and not all_turns.taken(user):
                tasks[asyncio.create_task(all_turns.wait(user))] = user
            elif what == "wait":
                held.append(user)
            elif what == "give" and user in held:
                held.remove(user)
                all_turns.give(user)
            elif what == "cancel" and tasks:
                list(tasks)[which % len(tasks)].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in [task for task in tasks if task.done()]:
                whose = tasks.pop(task)
                if not task.cancelled():
                    held.append(whose)
            share = max(1, number // 2)
            assert len(held) <= number
            of_first = sum(SERVER_OF.get(each or "") == 1 for each in held)
            full = {1} if servers and of_first == (number + 1) // 2 else set[int]()
            assert all(held.count(each) <= share for each in users if each is not None)
            assert not servers or of_first <= (number + 1) // 2
            assert all_turns.free == (len(held) < number)
            if all_turns.free:
                for whose in tasks.values():
                    assert whose is not None
                    assert held.count(whose) == share or SERVER_OF.get(whose) in full
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(follow())


def test_a_queue_is_gone_through_by_user() -> None:
    queue = FairQueue[int]()
    for user, item in (("ann", 1), ("ann", 2), ("ann", 3), ("bob", 4), (None, 5)):
        queue.put(user, item)
    taken = [queue.take(next(iter(queue))) for _ in range(len(queue))]
    assert taken == [1, 4, 5, 2, 3]
    assert len(queue) == 0
