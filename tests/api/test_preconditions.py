"""Each precondition on each method (RFC 9110, section 13; the table is in docs/guides/safe-writes.md)."""

import asyncio
from typing import Any

import pytest

from db.pool import Pool
from tests.api.test_etags import count, number
from tests.service import TASKS, Service

pytestmark = pytest.mark.once

METHODS: dict[str, tuple[str, str, Any, int]] = {
    "get": ("GET", "", None, 200),
    "head": ("HEAD", "", None, 200),
    "put": ("PUT", "", {"title": "y"}, 200),
    "patch": ("PATCH", "", {"title": "y"}, 200),
    "complete": ("PATCH", "/complete", None, 200),
    "delete": ("DELETE", "", None, 204),
    "restore": ("POST", "/restore", {"version": 1}, 200),
}
"""What is asked of a task that is at version 2, and what is answered where nothing stands against it."""
HOLDS, FAILS, KNOWN = "holds", "fails", "known"
NOW, LOST = "2-now", "2-lost"
"""In a tag: what was answered last, and the same of a log that was restored since (docs/adr/0020)."""
CONDITIONS: list[tuple[dict[str, str], str]] = [
    ({"If-Match": '"2"'}, HOLDS),
    ({"If-Match": "2"}, HOLDS),
    ({"If-Match": f'"7", W/"{NOW}-gzip"'}, HOLDS),
    ({"If-Match": "*"}, HOLDS),
    ({"If-Match": '"1"'}, FAILS),
    ({"If-Match": f'"someone-elses", W/"{LOST}-gzip"'}, FAILS),
    ({"If-None-Match": '"1"'}, HOLDS),
    ({"If-None-Match": f'"someone-elses", W/"{LOST}-gzip"'}, HOLDS),
    ({"If-None-Match": '"2"'}, KNOWN),
    ({"If-None-Match": f'"7", W/"{NOW}-gzip"'}, KNOWN),
    ({"If-None-Match": "*"}, KNOWN),
    ({"If-Match": '"2"', "If-None-Match": '"1"'}, HOLDS),
    ({"If-Match": '"2"', "If-None-Match": '"2"'}, KNOWN),
    ({"If-Match": '"1"', "If-None-Match": '"2"'}, FAILS),
    ({"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, HOLDS),
    ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, HOLDS),
    ({"If-Range": '"1"', "Range": "bytes=0-1"}, HOLDS),
]


async def filled_in(service: Service, path: str, headers: dict[str, str]) -> dict[str, str]:
    """Fill the present tag into the headers, and its number with another hash."""
    now = (await service.client.get(path)).headers["etag"].strip('"')
    lost = now[:-1] + ("0" if now[-1] != "0" else "1")
    return {name: value.replace(NOW, now).replace(LOST, lost) for name, value in headers.items()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("headers", "then"), CONDITIONS, ids=str)
async def test_a_task(service: Service, pool: Pool, path: str, name: str, headers: dict[str, str], then: str) -> None:
    before = (await service.client.patch(path, json={"title": "x"})).json()
    method, end, body, usual = METHODS[name]
    reads = method in ("GET", "HEAD")
    headers = await filled_in(service, path, headers)
    answer = await service.client.request(method, path + end, json=body, headers=headers)
    if then == HOLDS:
        assert answer.status_code == usual
        return
    assert (answer.status_code, number(answer)) == (304 if reads and then == KNOWN else 412, 2)
    assert (await service.client.get(path)).json() == before
    assert await count(pool) == 2


LIST: list[tuple[dict[str, str], str]] = [(headers, then) for headers, then in CONDITIONS if "Range" not in headers]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(("headers", "then"), LIST, ids=str)
async def test_the_list(
    service: Service, pool: Pool, path: str, method: str, headers: dict[str, str], then: str
) -> None:
    """A creation changes the list, whose tag is the number of the user's last event."""
    await service.client.patch(path, json={"title": "x"})
    usual = 201 if method == "POST" else 200
    body = {"title": "new"} if method == "POST" else None
    headers = await filled_in(service, TASKS, headers)
    answer = await service.client.request(method, TASKS, json=body, headers=headers)
    if then == HOLDS:
        assert answer.status_code == usual
        return
    assert (answer.status_code, number(answer)) == (412 if method == "POST" or then == FAILS else 304, 2)
    assert await count(pool) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "*"}, 200),
        ({"If-None-Match": '"1"'}, 200),
        ({"If-None-Match": '"2"'}, 412),
        ({"If-Match": '"2"'}, 200),
        ({"If-Match": '"1"'}, 412),
        ({"If-Match": "*"}, 412),
    ],
)
async def test_a_deleted_task_is_at_the_version_of_its_deletion_and_does_not_exist(
    service: Service, path: str, headers: dict[str, str], status: int
) -> None:
    await service.client.delete(path)
    for method, end, body in (("PUT", "", {"title": "y"}), ("DELETE", "", None), ("GET", "", None)):
        assert (await service.client.request(method, path + end, json=body, headers=headers)).status_code == 404
    assert (await service.client.post(f"{path}/restore", headers=headers)).status_code == status


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("bad", ['"2', "", "x", '"1" "2"'])
async def test_a_write_whose_precondition_cannot_be_read_is_400(
    service: Service, pool: Pool, path: str, name: str, bad: str
) -> None:
    for method, end, body, _ in (each for each in METHODS.values() if each[0] not in ("GET", "HEAD")):
        answer = await service.client.request(method, path + end, json=body, headers={name: bad})
        assert (answer.status_code, name in answer.json()["hint"]) == (400, True)
    assert (await service.client.post(TASKS, json={"title": "x"}, headers={name: bad})).status_code == 400
    assert await count(pool) == 1


async def test_a_tag_from_before_a_restore_is_refused_with_the_reason(service: Service, path: str) -> None:
    for method, where, body, what in (
        ("PUT", path, {"title": "y"}, "task is at version"),
        ("POST", TASKS, {"title": "y"}, "list is at event"),
    ):
        for known, when in ((f'"1-{"0" * 16}"', "again, after a restore from a backup"), ('"7"', "by now")):
            answer = await service.client.request(method, where, json=body, headers={"If-Match": known})
            assert answer.json()["hint"] == f"The {what} 1 {when}: look at it, then repeat the change."


async def test_of_many_creations_on_the_same_list_one_succeeds(service: Service, pool: Pool) -> None:
    for _ in range(2):  # the very first event, too
        known = (await service.client.get(TASKS)).headers["etag"]
        answers = await asyncio.gather(
            *(service.client.post(TASKS, json={"title": "x"}, headers={"If-Match": known}) for _ in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [201] + [412] * 9
    assert await count(pool) == 2


async def test_a_creation_sent_again_with_its_key_is_answered_again_though_the_list_has_changed(
    service: Service, pool: Pool
) -> None:
    headers = {"If-Match": '"0"', "Idempotency-Key": "k-1"}
    first = await service.client.post(TASKS, json={"title": "x"}, headers=headers)
    again = await service.client.post(TASKS, json={"title": "x"}, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(pool) == 1
