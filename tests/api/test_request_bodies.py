"""Request bodies at each limit and one past it (docs/http-api.md, "Bodies" and "Errors")."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.service import TASKS, Service

JSON = {"Content-Type": "application/json"}
KIB_64 = 64 * 1024


async def test_text_may_be_as_long_as_allowed(service: Service) -> None:
    for title, description in (("t", ""), ("t" * 255, "d" * 5000), (" " * 300 + "🥛" * 255, "🥛" * 5000)):
        answer = await service.client.post(TASKS, json={"title": title, "description": description})
        assert answer.status_code == 201
        assert (answer.json()["title"], answer.json()["description"]) == (title.strip(), description)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "title"),
        ({"title": None}, "title"),
        ({"title": ""}, "title"),
        ({"title": " \n\t"}, "title"),
        ({"title": 5}, "title"),
        ({"title": ["x"]}, "title"),
        ({"title": "t" * 256}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"title": "x", "description": "d" * 5001}, "description"),
        ({"title": "x", "description": "\0"}, "description"),
        ({"title": "x", "description": 5}, "description"),
        ({"title": "x", "completed": None}, "completed"),
        ({"title": "x", "completed": "true"}, "completed"),
        ({"title": "x", "completed": 1}, "completed"),
        ([], "body"),
        ("x", "body"),
        (None, "body"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_422_and_named(service: Service, body: Any, field: str) -> None:
    answer = await service.client.post(TASKS, json=body, headers=JSON)
    problem = answer.json()
    if body is None:  # the client sends no body for None
        answer = await service.client.post(TASKS, content=b"null", headers=JSON)
        problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert isinstance(problem["detail"], str)
    assert problem["detail"] == problem["error"]
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"].lower()


INVISIBLE = ["\u200b", "\u3164", "\u202e", "\u2800", "\ufe0f", "\U000e0041", " \u2060\u00ad\u200d\n\u115f "]


@pytest.mark.parametrize("title", INVISIBLE)
async def test_a_title_in_which_nothing_can_be_seen_is_422(service: Service, path: str, title: str) -> None:
    for method, where in (("POST", TASKS), ("PATCH", path)):
        answer = await service.client.request(method, where, json={"title": title})
        assert (answer.status_code, answer.json()["detail"]) == (422, "Title must hold something visible.")


@pytest.mark.parametrize(
    "title", [f"{each}x{each}" for each in INVISIBLE] + ["\u0301", "\ue000", "👩\u200d👧", "עברית"]
)
async def test_a_title_may_hold_what_cannot_be_seen_beside_what_can(service: Service, title: str) -> None:
    answer = await service.client.post(TASKS, json={"title": title})
    assert (answer.status_code, answer.json()["title"]) == (201, title.strip())


@pytest.mark.parametrize("control", ["\0", "\x07", "\x1b[2J", "\x7f", "\x85", "\x9b", "\r", "a\rb", "\r\r\n"])
async def test_control_characters_are_422(service: Service, path: str, control: str) -> None:
    for body in ({"title": f"x{control}y"}, {"title": "x", "description": control}):
        for method, where in (("POST", TASKS), ("PATCH", path)):
            answer = await service.client.request(method, where, json=body)
            assert answer.status_code == 422
            assert "must not contain control characters (U+" in answer.json()["detail"]


async def test_tabs_and_line_ends_of_every_system_are_fine(service: Service) -> None:
    text = "a\tb\nc\r\nd"
    answer = await service.client.post(TASKS, json={"title": text, "description": text + "\r\n"})
    assert (answer.json()["title"], answer.json()["description"]) == (text, text + "\r\n")


async def test_a_byte_order_mark_before_json_is_skipped(service: Service, path: str) -> None:
    mark = "\ufeff".encode()
    made = await service.client.post(TASKS, content=mark + b'{"title": "x"}', headers=JSON)
    set_ = await service.client.patch(f"{path}/complete", content=mark + b'{"completed": false}', headers=JSON)
    assert (made.status_code, set_.status_code, set_.json()["completed"]) == (201, 200, False)
    for body in (mark, mark + mark + b'{"title": "x"}'):
        assert (await service.client.post(TASKS, content=body, headers=JSON)).status_code == 400
        assert (await service.client.patch(f"{path}/complete", content=body, headers=JSON)).status_code == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "body",
    [{"title": None}, {"title": " "}, {"title": "t" * 256}, {"completed": None}, {"description": "d" * 5001}, []],
)
async def test_changes_keep_the_same_rules(service: Service, method: str, body: Any) -> None:
    task = (await service.client.post(TASKS, json={"title": "x"})).json()
    answer = await service.client.request(method, f"{TASKS}/{task['id']}", json=body)
    assert answer.status_code == 422
    assert (await service.client.get(f"{TASKS}/{task['id']}")).json() == task


@pytest.mark.parametrize("body", [{"completed": "yes"}, {"completed": None}, [], 1])
async def test_completion_is_a_boolean(service: Service, body: Any) -> None:
    task = (await service.client.post(TASKS, json={"title": "x"})).json()
    assert (await service.client.patch(f"{TASKS}/{task['id']}/complete", json=body)).status_code == 422


async def test_one_of_many_tags_that_break_a_rule_is_enough(service: Service) -> None:
    answer = await service.client.post(TASKS, json={"title": "x", "tags": [1] * 20_000})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 1)


async def test_several_faults_are_all_named(service: Service) -> None:
    problem = (await service.client.post(TASKS, json={"title": "", "completed": 3})).json()
    assert {error["field"] for error in problem["errors"]} == {"title", "completed"}
    assert all(set(error) == {"field", "message", "type"} for error in problem["errors"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"title": "a\\ud800"}', "title"),
        (b'{"title": "\\udc00b"}', "title"),
        (b'{"title": "\\ud800 b"}', "title"),
        (b'{"title": "x", "description": "\\ud83e and more"}', "description"),
        (b'{"title": "a\\u0000"}', "title"),
    ],
)
async def test_half_a_character_is_422(service: Service, body: bytes, field: str) -> None:
    answer = await service.client.post(TASKS, content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_a_whole_character_in_two_halves_is_fine(service: Service) -> None:
    answer = await service.client.post(TASKS, content=b'{"title": "\\ud83e\\udd5b"}', headers=JSON)
    assert (answer.status_code, answer.json()["title"]) == (201, "🥛")


async def test_half_a_character_in_a_field_that_is_not_known_is_ignored(service: Service) -> None:
    answer = await service.client.post(TASKS, content=b'{"title": "x", "other": "\\ud800"}', headers=JSON)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"title": }',
        b"title=x",
        b'{"title": "\xff"}',
        b"[" * 60_000,
        b'{"title": "x"} {}',
        b"\x00",
        '{"title": "x"}'.encode("utf-16"),
        '{"title": "x"}'.encode("utf-32"),
        b'{"title": "x", "y": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"title": "\\ud800", }',
        b'{"title": NaN}',
        b'{"title": "x", "id": Infinity}',
        b'{"title": "x", "other": [-Infinity]}',
    ],
)
async def test_a_body_that_is_no_json_is_400(service: Service, body: bytes) -> None:
    answer = await service.client.post(TASKS, content=body, headers=JSON)
    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)


async def test_a_text_may_have_the_words_that_are_no_numbers(service: Service) -> None:
    for body in (b'{"title": "NaN, -Infinity"}', b'{"title": "NaN", "other": "\\ud800"}'):
        answer = await service.client.post(TASKS, content=body, headers=JSON)
        assert answer.status_code == 201


def _padded(size: int) -> bytes:
    body = b'{"title": "x", "padding": "'
    return body + b"p" * (size - len(body) - 2) + b'"}'


async def _streamed(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


async def test_a_body_may_have_64_kib_and_no_more(service: Service) -> None:
    assert (await service.client.post(TASKS, content=_padded(KIB_64), headers=JSON)).status_code == 201
    answer = await service.client.post(TASKS, content=_padded(KIB_64 + 1), headers=JSON)
    assert answer.status_code == 413
    assert isinstance(answer.json()["detail"], str)


async def test_a_body_of_unannounced_length_may_have_64_kib_and_no_more(service: Service) -> None:
    assert (await service.client.post(TASKS, content=_streamed(_padded(KIB_64)), headers=JSON)).status_code == 201
    answer = await service.client.post(TASKS, content=_streamed(_padded(KIB_64 + 1)), headers=JSON)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json", "", None],
)
async def test_json_is_taken_under_its_names_and_without_one(service: Service, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = await service.client.post(TASKS, content=b'{"title": "x"}', headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "text/json+json"},
        {"Content-Type": ";"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_another_media_type_is_415(service: Service, headers: dict[str, str]) -> None:
    answer = await service.client.post(TASKS, content=b'{"title": "x"}', headers=headers)
    assert answer.status_code == 415
    assert isinstance(answer.json()["detail"], str)


async def test_the_user_is_known_before_the_body_is_read(service: Service) -> None:
    answer = await service.client.post(TASKS, content=b"{", headers={**JSON, "Authorization": ""})
    assert answer.status_code == 401
    answer = await service.client.post("/api/bob/tasks", content=b"{", headers=JSON)
    assert answer.status_code == 403
