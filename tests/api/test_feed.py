"""A user's events as they happen (docs/http-api.md, "Feed")."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from api.auth import verifier
from api.routers import feed
from db import servers
from db.pool import Pool, open_pool
from events.store import log
from events.store.event_store import EventStore
from queries import feed as feeds
from tests.arrange import Statement, create, note_statements, until, until_locked_out
from tests.feeds import FeedReader
from tests.feeds import reading as feed_reader
from tests.network import Link
from tests.processes import free_port
from tests.service import TASKS, Service, bearer, listening, serving, sql, value

STREAM = "/api/ann/audit/stream"

pytestmark = pytest.mark.once


def reading(port: int, path: str = STREAM, **options: str) -> AbstractAsyncContextManager[FeedReader]:
    return feed_reader(port, path, **options)


@pytest.fixture
async def port(service: Service) -> AsyncIterator[int]:
    async with listening(service.app, service.state) as port:
        yield port


@asynccontextmanager
async def locked(other: asyncpg.Connection, table: str, *users: str) -> AsyncIterator[None]:
    """Hold the locks of these users' rows for the block. Reads don't wait for them, but for `FOR UPDATE`."""
    async with other.transaction():
        for user in users:
            await other.execute(f"SELECT FROM {table} WHERE user_id = $1 FOR UPDATE", user)
        yield


async def test_events_come_as_they_happen_with_the_task_after_them(service: Service, port: int) -> None:
    async with reading(port) as reader:
        assert "200 OK" in reader.head
        for header in ("content-type: text/event-stream", "x-accel-buffering: no", "cache-control: no-store"):
            assert header in reader.head.lower()
        assert await reader.message() == {"retry": "2000", "id": "0"}
        made = (await service.client.post(TASKS, json={"title": "x"})).json()
        path = f"{TASKS}/{made['id']}"
        first = await reader.event()
        changed = (await service.client.put(path, json={"title": "y"})).json()
        await service.client.delete(path)
        second, third = await reader.event(), await reader.event()
    listed = (await service.client.get("/api/ann/audit?order=asc")).json()
    assert [first, second, third] == [
        {**event, "task": task} for event, task in zip(listed, (made, changed, None), strict=True)
    ]


async def test_after_0_gives_the_whole_log_with_each_task_as_it_was(service: Service, port: int) -> None:
    made = (await service.client.post(TASKS, json={"title": "0"})).json()
    expected = [made]
    for number in range(1, 120):
        body = {"title": str(number)}
        expected.append((await service.client.put(f"{TASKS}/{made['id']}", json=body)).json())
    for after in (0, 70):
        async with reading(port, f"{STREAM}?after={after}") as reader:
            assert [(await reader.event())["task"] for _ in expected[after:]] == expected[after:]


async def make_tasks(service: Service, number: int, **fields: str) -> list[str]:
    made = []
    for begin in range(0, number, 30):
        operations = [{"op": "create", "title": "0", **fields}] * min(30, number - begin)
        answer = (await service.client.post("/api/ann/batch", json={"operations": operations})).json()
        made += [each["task"]["id"] for each in answer["results"]]
    return made


@pytest.mark.parametrize("after", [0, 130])
async def test_a_replay_folds_the_events_before_it_once(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    ids = await make_tasks(service, 60)
    for round_ in range(1, 7):
        operations = [{"op": "update", "id": id_, "title": str(round_)} for id_ in ids]
        await service.client.post("/api/ann/batch", json={"operations": operations})
    statements = note_statements(monkeypatch)
    async with reading(port, f"{STREAM}?after={after}") as reader:
        for seq in range(after, 420):
            task = (await reader.event())["task"]
            assert (task["id"], task["title"], task["version"]) == (ids[seq % 60], str(seq // 60), seq // 60 + 1)
    folds = [each for each in statements.sent if each.query != feeds.FEED and "streams" not in each.query]
    assert sum(each.rows or 0 for each in folds) == after
    assert len(folds) <= 2  # one for each page with tasks that it doesn't know


async def test_a_long_history_is_folded_batch_by_batch(service: Service, port: int) -> None:
    ids = await make_tasks(service, 2)
    for begin in range(1, 301, 50):
        operations = [
            {"op": "update", "id": id_, "title": str(title)} for title in range(begin, begin + 50) for id_ in ids
        ]
        await service.client.post("/api/ann/batch", json={"operations": operations})
    async with reading(port, f"{STREAM}?after=596") as reader:
        assert [(await reader.event())["task"]["title"] for _ in range(6)] == ["298", "298", "299", "299", "300", "300"]


async def test_deletions_and_what_was_brought_back_need_no_fold(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = await make_tasks(service, 1)
    expected = []
    for _ in range(2):
        await service.client.delete(f"{TASKS}/{id_}")
        expected += [None, (await service.client.post(f"{TASKS}/{id_}/restore")).json()]
    statements = note_statements(monkeypatch)
    async with reading(port, f"{STREAM}?after=1") as reader:
        assert [(await reader.event())["task"] for _ in expected] == expected
    assert not [each for each in statements.sent if each.query != feeds.FEED and "streams" not in each.query]


async def test_what_a_feed_holds_has_a_limit_in_bytes(service: Service, port: int) -> None:
    made = await make_tasks(service, 60, description="\N{GRINNING FACE}" * 5000)
    operations = [{"op": "update", "id": id_, "title": "1"} for id_ in made]
    await service.client.post("/api/ann/batch", json={"operations": operations})
    all_feeds = service.state["feeds"]
    remembered = all_feeds._remembered
    remembered._most = 1_000_000  # 24 of the tasks
    pages, seq = list[int](), 0
    async with all_feeds.opened("ann") as feed:
        while page := await feed.read(service.pool.of("ann"), after=seq):
            pages.append(sum(len(row["data"]) + len(task.description or "") * 4 for row, task in page if task))
            seq = page[-1][0]["seq"]
    assert seq == 120
    assert max(pages) < 400_000
    async with reading(port, f"{STREAM}?after=0") as reader:
        for number in range(120):
            assert (await reader.event())["task"]["version"] == 1 + number // 60
            assert remembered.size < 1_000_000
        await until(lambda: 0 < remembered.size < 200_000)  # of up to date feeds: four tasks
    await until(lambda: remembered.size == 0)


async def test_it_goes_on_where_the_last_one_ended(service: Service, port: int) -> None:
    for title in "abc":
        await service.client.post(TASKS, json={"title": title})
    async with reading(port, f"{STREAM}?after=0", Last_Event_ID="2") as reader:
        assert (await reader.event())["seq"] == 3


async def test_without_a_place_it_begins_now(service: Service, port: int) -> None:
    await service.client.post(TASKS, json={"title": "before"})
    async with reading(port) as reader:
        await reader.message()
        await service.client.post(TASKS, json={"title": "after"})
        assert (await reader.event())["task"]["title"] == "after"


async def test_events_of_other_processes_come_too(pool: Pool, port: int) -> None:
    async with reading(port) as reader:
        await reader.message()
        task = await create(pool)  # by another event store
        assert (await reader.event())["task_id"] == str(task.id)


async def test_events_of_other_processes_come_after_a_look_for_them_has_failed(
    pool: Pool, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = note_statements(monkeypatch)
    async with asyncio.timeout(10), reading(port) as reader:
        await reader.message()
        await sql(pool, "ALTER TABLE streams RENAME TO gone")
        await until(lambda: statements.failures)
        await sql(pool, "ALTER TABLE gone RENAME TO streams")
        await create(pool)
        assert (await reader.event())["seq"] == 1


@pytest.mark.parametrize("fails", [True, False], ids=["down", "frozen"])
async def test_a_server_that_fails_or_hangs_holds_up_no_feed_of_another_ones_users(
    database: str, pool: Pool, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    others = ("abe", "bob")
    for user in others:
        await create(pool, user)
    their_server, seconds = (1, 0.5) if fails else (2, 60)
    monkeypatch.setattr(servers, "SERVER_OF", f"SELECT CASE $1::text WHEN 'ann' THEN 1 ELSE {their_server} END")
    monkeypatch.setattr(log, "HEAD", f"{log.HEAD} FOR UPDATE")
    async with (
        asyncio.timeout(30),
        open_pool(database, timeout=seconds, sharded=True) as sharded,
        locked(other, "streams", *others),
        AsyncExitStack() as opened,
    ):
        all_feeds = feeds.Feeds(EventStore(sharded), most=10, most_of_user=8)
        for user in others:
            await opened.enter_async_context(all_feeds.opened(user))
        feed = await opened.enter_async_context(all_feeds.opened("ann"))
        await until_locked_out(other)
        reads = pool if fails else sharded  # the time of the heads would be short for these on a busy machine
        for _ in range(2):
            await create(pool)
            await feed.wait(60)
            assert await feed.read(reads.of("ann"), after=0)


async def test_a_batch_is_sent_at_once_and_in_order(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_TICK", 60)
    async with reading(port) as reader:
        await reader.message()
        operations = [{"op": "create", "title": str(number)} for number in range(100)]
        await service.client.post("/api/ann/batch", json={"operations": operations})
        assert [(await reader.event())["seq"] for _ in operations] == list(range(1, 101))


async def test_every_reader_has_every_event_once_and_in_order(service: Service, port: int) -> None:
    """Several readers connect again and again, while others write."""
    number = 150

    async def read() -> list[int]:
        seen: list[int] = []
        while len(seen) < number:
            async with reading(port, f"{STREAM}?after=0", Last_Event_ID=str(seen[-1] if seen else 0)) as reader:
                for _ in range(1 + len(seen) % 17):
                    if len(seen) < number:
                        seen.append((await reader.event())["seq"])
        return seen

    async def write() -> None:
        for title in range(number // 5):
            await service.client.post(TASKS, json={"title": str(title)})

    *seen, _ = await asyncio.gather(*(read() for _ in range(4)), asyncio.gather(*(write() for _ in range(5))))
    assert seen == [list(range(1, number + 1))] * 4


async def test_events_come_too_after_a_backup_was_restored_while_it_was_open(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_TICK", 60)
    async with asyncio.timeout(10), reading(port) as reader:
        await reader.message()
        service.state["feeds"]._moved("ann", 100)  # the log had so many
        await service.client.post(TASKS, json={"title": "x"})
        assert (await reader.event())["seq"] == 1


async def test_it_is_about_ones_own_events(service: Service, port: int) -> None:
    async with reading(port) as reader, service.as_user("bob") as bob:
        await bob.post("/api/bob/tasks", json={"title": "Bob's"})
        await service.client.post(TASKS, json={"title": "Ann's"})
        assert (await reader.event())["task"]["title"] == "Ann's"
    async with reading(port, user="bob") as reader:
        assert "403" in reader.head.partition("\r\n")[0]


async def test_silence_is_broken_by_a_comment(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_SILENCE", 0.05)
    async with reading(port) as reader:
        assert [await reader.message() for _ in range(3)] == [{"retry": "2000", "id": "0"}, {"": "ping"}, {"": "ping"}]


async def test_silence_is_broken_while_the_database_hangs(
    pool: Pool, port: int, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(pool)
    monkeypatch.setattr(feed, "_SILENCE", 0.05)
    monkeypatch.setattr(feeds, "FEED", f"{feeds.FEED} FOR UPDATE OF events")
    async with locked(other, "events", "ann"), reading(port, f"{STREAM}?after=0") as reader:
        assert [await reader.message() for _ in range(3)] == [{"retry": "2000", "id": "0"}, {"": "ping"}, {"": "ping"}]


@asynccontextmanager
async def cut_off(
    database: str, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FeedReader, Link]]:
    """Yield a reader of a feed with an event to read, whose service lost the database while it read, and the link."""
    monkeypatch.setattr(feeds, "_TICK", 60)  # other reads than the feed's would be refused too
    monkeypatch.setattr(feeds, "FEED", f"{feeds.FEED} FOR UPDATE OF events")
    link = Link(database)
    async with (
        link.open() as far,
        serving(far) as service,
        listening(service.app, service.state) as port,
        AsyncExitStack() as opened,
    ):
        await service.client.post(TASKS, json={"title": "x"})
        async with locked(other, "events", "ann"):
            reader = await opened.enter_async_context(reading(port, f"{STREAM}?after=0"))
            assert await reader.message() == {"retry": "2000", "id": "0"}
            await until_locked_out(other)
            link.lead_to(f"postgresql://x@127.0.0.1:{free_port()}/x")
            link.drop()
            await until(lambda: service.pool.down)
        yield reader, link


def refused() -> float:
    """Return how many reads weren't sent since the database was known to be away."""
    return value("daybook_database_refusals_total", reason="unavailable")


async def test_silence_is_broken_while_the_database_is_away(
    database: str, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_SILENCE", 0.05)
    monkeypatch.setattr(feed, "_AGAIN", 0.01)
    async with cut_off(database, other, monkeypatch) as (reader, _):
        before = refused()
        while refused() < before + 3:
            assert await reader.message() == {"": "ping"}
        assert [await reader.message() for _ in range(2)] == [{"": "ping"}] * 2


async def test_feeds_of_a_user_at_the_same_place_share_what_they_read(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as opened:
        readers = [await opened.enter_async_context(reading(port)) for _ in range(8)]
        for each in readers:
            await each.message()
        statements = note_statements(monkeypatch)
        for seq in range(1, 4):
            await service.client.post(TASKS, json={"title": "x"})
            assert {(await each.event())["seq"] for each in readers} == {seq}
        await until(lambda: any(each.arguments[1] == 3 for each in statements.of(feeds.FEED)))
    read = [each.arguments[1] for each in statements.of(feeds.FEED)]
    assert set(read) == {0, 1, 2, 3}
    assert len(read) < 16  # 48 if each read for itself: an event, and that there is no more


async def test_a_read_that_began_before_an_event_is_not_shared_after_it(
    service: Service, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that is woken while an older read runs would take the older for its own, and sleep on the event."""
    statements, going = note_statements(monkeypatch), asyncio.Event()

    async def hold_the_second(answered: Statement) -> None:
        if answered in statements.of(feeds.FEED)[1:2]:
            await going.wait()

    def answered() -> int:
        return sum(each.rows is not None for each in statements.of(feeds.FEED))

    statements.on_answer = hold_the_second
    async with asyncio.timeout(10), reading(port) as sleeping:
        await until(lambda: answered() == 1)
        async with reading(port, f"{STREAM}?after=0") as reader:
            await until(lambda: answered() == 2)
            await service.client.post(TASKS, json={"title": "x"})
            assert (await sleeping.event())["seq"] == 1
            going.set()
            assert (await reader.event())["seq"] == 1


async def test_nothing_is_read_in_silence(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = note_statements(monkeypatch)
    monkeypatch.setattr(feed, "_SILENCE", 0.05)
    async with reading(port) as reader:
        assert [await reader.message() for _ in range(4)] == [{"retry": "2000", "id": "0"}, *[{"": "ping"}] * 3]
    assert [each.query for each in statements.sent if "streams" not in each.query] == [feeds.FEED]


async def test_it_ends_with_its_token(port: int) -> None:
    expiry = bearer("ann", exp=datetime.now(UTC) - timedelta(seconds=verifier._LEEWAY - 2))
    async with reading(port, Authorization=expiry["Authorization"]) as reader:
        assert await reader.event() is None


async def test_it_ends_after_a_while(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_LONGEST", 0.2)
    async with reading(port) as reader:
        assert await reader.event() is None


async def test_it_ends_when_the_service_stops(service: Service) -> None:
    async with AsyncExitStack() as opened:
        async with listening(service.app, service.state) as port:
            reader = await opened.enter_async_context(reading(port))
            await reader.message()
        assert await reader.event() is None
    await until(lambda: not value("daybook_feeds_open"))


async def test_it_ends_at_once_if_it_begins_while_the_service_stops(
    service: Service, other: asyncpg.Connection
) -> None:
    async with asyncio.timeout(10), AsyncExitStack() as opened:
        async with listening(service.app, service.state) as port:
            lock = other.transaction()
            await lock.start()
            await other.execute("LOCK TABLE streams")
            opening = asyncio.create_task(opened.enter_async_context(reading(port)))
            await until_locked_out(other, 2)  # its own look at the log's end, and the one for all feeds
            unlocking = asyncio.create_task(lock.rollback())  # begins once the service has been told to stop
        await unlocking
        assert "200" in (await opening).head


async def test_a_client_that_reads_nothing_does_not_hold_up_the_service_s_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, pause = asyncio.Event(), FlowControl.pause_writing

    def notice(self: FlowControl) -> None:
        pause(self)
        paused.set()

    monkeypatch.setattr(FlowControl, "pause_writing", notice)
    operations = [{"op": "create", "title": "x", "description": "y" * 5000}] * 100
    for _ in range(8):
        assert (await service.client.post("/api/ann/batch", json={"operations": operations})).status_code == 200
    async with asyncio.timeout(10), AsyncExitStack() as opened, listening(service.app, service.state) as port:
        reader = await opened.enter_async_context(reading(port, f"{STREAM}?after=0"))
        reader.writer.transport.pause_reading()  # type: ignore[attr-defined] # typed as any transport
        await paused.wait()


async def test_it_goes_on_after_the_database_was_away(
    database: str, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_AGAIN", 0.05)
    async with cut_off(database, other, monkeypatch) as (reader, link):
        before = refused()
        await until(lambda: refused() >= before + 3)
        link.lead_to(database)
        assert (await reader.event())["seq"] == 1


async def test_a_user_has_eight_at_most_and_closed_ones_do_not_count(port: int) -> None:
    async with AsyncExitStack() as opened:
        for _ in range(8):
            await opened.enter_async_context(reading(port))
        async with reading(port) as ninth:
            assert "429" in ninth.head.partition("\r\n")[0]
            assert "retry-after: 5" in ninth.head.lower()
        async with reading(port, "/api/bob/audit/stream", user="bob") as other:
            assert "200" in other.head.partition("\r\n")[0]
    await until(lambda: not value("daybook_feeds_open"))
    async with reading(port) as again:
        assert "200" in again.head.partition("\r\n")[0]


async def test_a_worker_has_a_limit_of_its_own(database: str) -> None:
    async with (
        serving(database, feeds_per_worker=1) as service,
        listening(service.app, service.state) as port,
        reading(port),
        reading(port, "/api/bob/audit/stream", user="bob") as other,
    ):
        assert "429" in other.head.partition("\r\n")[0]


async def test_a_refusal_tells_of_ones_own_streams_only(database: str) -> None:
    async with (
        serving(database, feeds_per_user=2, feeds_per_worker=3) as service,
        listening(service.app, service.state) as port,
        reading(port),
        reading(port),
        reading(port, "/api/bob/audit/stream", user="bob"),
    ):
        refused = (await service.client.get(STREAM)).json()
        assert refused["hint"] == "Close a stream first: 2 of yours are open."
        async with service.as_user("cleo") as cleo:
            refused = (await cleo.get("/api/cleo/audit/stream")).json()
        assert refused["hint"] == "Try again later: there is no room for another stream now."


async def test_a_refused_one_is_not_counted(service: Service, port: int) -> None:
    for _ in range(10):
        assert (await service.client.get(f"{STREAM}?after=7")).status_code == 410
    async with reading(port) as reader:
        assert "200" in reader.head.partition("\r\n")[0]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**63), "²", "1" * 5000])
async def test_a_last_id_that_can_be_none_is_400(service: Service, last: str) -> None:
    answer = await service.client.get(STREAM, headers=[(b"Last-Event-ID", last.encode("latin-1"))])
    assert (answer.status_code, "Last-Event-ID" in answer.json()["hint"]) == (400, True)


async def test_head_ends_at_once(service: Service) -> None:
    answer = await service.client.head(STREAM)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    await until(lambda: not value("daybook_feeds_open"))


async def test_a_row_that_is_missing_or_wrong_changes_nothing(service: Service, pool: Pool, port: int) -> None:
    made = (await service.client.post(TASKS, json={"title": "x"})).json()
    changed = (await service.client.put(f"{TASKS}/{made['id']}", json={"title": "y"})).json()
    for damage in ("UPDATE tasks SET document = '{}'", "DELETE FROM tasks"):
        await sql(pool, damage)
        async with reading(port, f"{STREAM}?after=1") as reader:
            assert (await reader.event())["task"] == changed


async def test_metrics_tell_of_it(service: Service, port: int) -> None:
    before = value("daybook_feed_events_total"), value("daybook_feed_lag_seconds_count")
    await service.client.post(TASKS, json={"title": "x"})
    async with reading(port, f"{STREAM}?after=0") as reader:
        await reader.event()
        assert value("daybook_feeds_open") == 1
        await service.client.post(TASKS, json={"title": "y"})
        await reader.event()
        await until(lambda: value("daybook_feed_lag_seconds_count") == before[1] + 1)  # not the one before it opened
    assert value("daybook_feed_events_total") == before[0] + 2
