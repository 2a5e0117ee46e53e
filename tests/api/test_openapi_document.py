"""Contract, section 6: the OpenAPI document is whole, its examples are true, and its snapshot is up to date."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.examples import CSV_FILE, NDJSON_LINES, TASK_ID
from api.faults import FAULTS
from api.problems import Problem, RequestHeaderFieldsTooLarge
from api.schemas import NewTask, Task
from events.records import CSV_COLUMNS
from tests.openapi import SNAPSHOT, text
from tests.service import Service, bearer, serving

pytestmark = pytest.mark.once

DOCUMENT: dict[str, Any] = json.loads(SNAPSHOT.read_text())
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}
PUBLIC = ("getKeys", "health", "readyz", "livez")
PAGED = ("listTasks", "listEvents", "listAccesses", "getHistory")
ANSWERS = [(name, status) for name, operation in OPERATIONS.items() for status in operation["responses"]]


@pytest.fixture
async def service(database: str) -> AsyncIterator[Service]:
    """Yield the app, which knows auditors by the claim `auditor`."""
    async with serving(database, auditor_claim="auditor") as service:
        yield service


def resolved(value: Any) -> Any:
    """Follow a reference; return anything else as it is."""
    if isinstance(value, dict) and "$ref" in value:
        target: Any = DOCUMENT
        for step in value["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return target
    return value


@cache
def component(name: str) -> jsonschema_rs.Validator:
    return matching({"$ref": f"#/components/schemas/{name}"})


def matching(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Make a validator that knows the document's components."""
    whole = {"components": DOCUMENT["components"], **schema}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def everything(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(inner)


def test_the_document_is_of_openapi_3_1_and_knows_every_operation_by_a_name_of_its_own() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert len(OPERATIONS) == sum(len(path) for path in DOCUMENT["paths"].values())


def test_every_operation_lists_the_answers_it_can_give() -> None:
    user = {"400", "401", "403", "429", "500", "503"}
    write, body = {"408", "413", "422"}, {"415"}
    assert {name: set(operation["responses"]) for name, operation in OPERATIONS.items()} == {
        "listTasks": {"200", "304", "412"} | user,
        "countTasks": {"200", "304", "412"} | user,
        "getChanges": {"200", "410"} | user,
        "createTask": {"201", "409", "412"} | user | write | body,
        "getTask": {"200", "304", "404", "410", "412"} | user,
        "putTask": {"200", "404", "412"} | user | write | body,
        "patchTask": {"200", "404", "412"} | user | write | body,
        "completeTask": {"200", "404", "412"} | user | write | body,
        "deleteTask": {"204", "404", "412"} | user | write,
        "restoreTask": {"200", "404", "410", "412"} | user | write | body,
        "eraseTask": {"204", "404", "409", "412"} | user | write | body,
        "eraseUser": {"204", "412"} | user | write | body,
        "batch": {"200", "409", "410", "412"} | user | write | body,
        "restoreAll": {"200", "410", "412"} | user | write | body,
        "streamEvents": {"200", "410", "429"} | user,
        "undo": {"200", "204", "404", "409", "410", "412"} | user | write | body,
        "listEvents": {"200"} | user,
        "getHead": {"200"} | user,
        "listAccesses": {"200"} | user,
        "getHistory": {"200", "404"} | user,
        "getKeys": {"200"},
        "health": {"200", "503"},
        "readyz": {"200", "503"},
        "livez": {"200"},
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_it_does_and_what_it_takes(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"][0] in [tag["name"] for tag in DOCUMENT["tags"]]
    assert ("security" in operation) == ("401" in operation["responses"]) == (name not in PUBLIC)
    assert ("requestBody" in operation) == ("415" in operation["responses"])
    parameters = [resolved(parameter) for parameter in operation["parameters"]]
    names = {parameter["name"] for parameter in parameters}
    assert "X-Request-ID" in names
    assert ("Idempotency-Key" in names) == ("408" in operation["responses"])
    assert ("If-Match" in names) == ("If-None-Match" in names) == ("412" in operation["responses"])
    for parameter in parameters:
        assert parameter["description"]
        assert parameter["schema"]["examples"]
        for value in parameter["schema"]["examples"]:
            matching(parameter["schema"]).validate(value)


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if "requestBody" in operation])
def test_every_example_of_a_body_fits_its_schema(name: str) -> None:
    for content in OPERATIONS[name]["requestBody"]["content"].values():
        assert content["examples"]
        for each in content["examples"].values():
            matching(content["schema"]).validate(each["value"])


@pytest.mark.parametrize(("name", "status"), ANSWERS)
def test_every_answer_has_its_headers_and_examples_that_fit(name: str, status: str) -> None:
    answer = OPERATIONS[name]["responses"][status]
    headers = {header: resolved(reference) for header, reference in answer["headers"].items()}
    assert answer["description"] not in ("", "Successful Response")
    assert {"X-Request-ID", "X-Content-Type-Options", "Cache-Control"} <= headers.keys()
    assert ("WWW-Authenticate" in headers) == (status == "401")
    assert ("Location" in headers) == (status == "201")
    assert ("Link" in headers) == (
        status == "200" and name in ("listTasks", "listEvents", "getHistory", "listAccesses")
    )
    assert ("Retry-After" in headers) == (status in ("429", "503") and name not in PUBLIC)
    of_state = name.endswith(("Task", "Tasks")) or name in ("batch", "restoreAll", "undo", "eraseUser")
    one_task_or_the_list = of_state and status in ("200", "201", "304", "412")
    assert ("ETag" in headers) == one_task_or_the_list
    assert ("Idempotency-Replayed" in headers) == (status < "300" and "408" in OPERATIONS[name]["responses"])
    for header in headers.values():
        assert header["description"]
        if "example" in header:
            matching(header["schema"]).validate(header["example"])
    assert ("content" in answer) == (status not in ("204", "304"))
    problem = status >= "400" and name not in PUBLIC
    streams = {"application/x-ndjson", "text/csv"} if (name, status) == ("listEvents", "200") else set()
    expected = {"application/problem+json" if problem else "application/json"} | streams
    if (name, status) == ("streamEvents", "200"):
        expected = {"text/event-stream"}
    assert set(answer.get("content", expected)) == expected
    for content in answer.get("content", {}).values():
        assert content["examples"]
        for each in map(resolved, content["examples"].values()):
            assert each["summary"]
            matching(content["schema"]).validate(each["value"])
            assert not problem or str(each["value"]["status"]) == status


def test_every_reference_and_every_link_leads_somewhere() -> None:
    for each in everything(DOCUMENT):
        if "$ref" in each:
            assert each["$ref"].startswith("#/components/")
            resolved(each)
    links = OPERATIONS["createTask"]["responses"]["201"]["links"]
    of_a_task = {name for name, operation in OPERATIONS.items() if "404" in operation["responses"]} - {"undo"}
    assert set(links) == of_a_task
    for link in links.values():
        parameters = map(resolved, OPERATIONS[link["operationId"]]["parameters"])
        assert set(link["parameters"]) == {each["name"] for each in parameters if each["in"] == "path"}


def test_every_component_is_used() -> None:
    used = {each["$ref"] for each in everything(DOCUMENT) if "$ref" in each}
    for kind in ("schemas", "headers", "parameters", "examples"):
        assert {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} <= used


@pytest.mark.parametrize(
    "problem", [each for each in Problem.__subclasses__() if each is not RequestHeaderFieldsTooLarge]
)
def test_every_problem_has_an_example_but_the_one_that_comes_before_there_is_an_operation(
    problem: type[Problem],
) -> None:
    assert problem in [fault.problem for fault in FAULTS.values()]


TASKS = "/api/demo/tasks"
TASK = f"{TASKS}/{TASK_ID}"
OF_ANOTHER_LIST = "W1tudWxsLFtdLCJ0aXRsZSIsImFzYyJdLCJ4IiwiMDE5YTllM2M1ZjNhN2MyMTlkNTIzZDBjNWYwZThhMTEiXQ"
AUDITOR = bearer("demo", auditor=True, scope="audit:read")
PROVOKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "notReadable": ("POST", TASKS, {"content": b'{"title": "Buy'}),
    "noUuid": ("GET", f"{TASKS}/42x", {}),
    "badParameter": ("GET", f"{TASKS}?limit=5000", {}),
    "badCursor": ("GET", f"{TASKS}?cursor=x", {}),
    "badToken": ("GET", f"{TASKS}/changes?since=x", {}),
    "logReplaced": ("GET", f"{TASKS}/changes?since=AAAAAAAAAAIPO7LZSo58VQ", {}),
    "otherCursor": ("GET", f"{TASKS}?cursor={OF_ANOTHER_LIST}", {}),
    "contradiction": ("GET", f"{TASKS}?status=pending&completed=true", {}),
    "noToken": ("GET", TASKS, {"headers": {"Authorization": ""}}),
    "expired": ("GET", TASKS, {"headers": bearer("demo", exp=10**9)}),
    "notYours": ("GET", "/api/ann/tasks", {}),
    "notForAuditors": ("GET", "/api/ann/tasks", {"headers": AUDITOR}),
    "noSuchUser": ("GET", "/api/%00/audit", {"headers": AUDITOR}),
    "readOnly": ("POST", TASKS, {"json": {"title": "x"}, "headers": bearer("demo", scope="tasks:read")}),
    "notFound": ("GET", TASK, {}),
    "tooLarge": ("POST", TASKS, {"content": b" " * 70_000}),
    "notJson": ("POST", TASKS, {"content": b"Buy milk", "headers": {"Content-Type": "text/plain"}}),
    "invalid": ("POST", TASKS, {"json": {"title": " ", "completed": "yes"}}),
    "badKey": ("POST", TASKS, {"json": {"title": "x"}, "headers": {"Idempotency-Key": '"'}}),
    "badIfMatch": ("DELETE", TASK, {"headers": {"If-Match": '"1'}}),
    "noKnownField": ("PATCH", TASK, {"json": {"titel": "x"}}),
    "otherQuery": ("PATCH", f"{TASK}/complete?done=true", {}),
    "twoPasts": ("GET", f"{TASK}?version=1&as_of=2026-11-20T19:30:00Z", {}),
    "noMoment": ("GET", f"{TASKS}?as_of=2026-11-20T19:30:00", {}),
    "notThen": ("GET", f"{TASK}?version=1", {}),
    "operationRefused": ("POST", "/api/demo/batch", {"json": {"operations": [{"op": "delete", "id": TASK_ID}]}}),
    "badOperation": (
        "POST",
        "/api/demo/batch",
        {"json": {"operations": [{"op": "create", "title": " "}, {"op": "delete"}]}},
    ),
    "aQuery": ("POST", "/api/demo/undo?seq=1", {}),
    "noAsOf": ("POST", "/api/demo/restore", {"json": {"dry_run": True}}),
    "nothingToUndo": ("POST", "/api/demo/undo", {"json": {"seq": 3}}),
    "noSeq": ("POST", "/api/demo/undo", {"json": {"seq": "x"}}),
    "notBoolean": ("PATCH", f"{TASK}/complete", {"json": {"completed": "yes"}}),
    "badReason": ("POST", f"{TASK}/erase", {"json": {"reason": "x" * 501}}),
    "notConfirmed": ("DELETE", "/api/demo", {"json": {"confirm": "ann"}}),
}
"""How to get the answers that a client can get by itself."""


@pytest.mark.parametrize("name", PROVOKED)
async def test_an_example_of_an_error_is_what_is_really_answered(service: Service, name: str) -> None:
    method, path, options = PROVOKED[name]
    async with service.as_user("demo") as client:
        answer = await client.request(method, path, **options)
    documented = FAULTS[name].value()
    assert answer.json() == {**documented, "request_id": answer.headers["x-request-id"]}


OF_A_TASK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "listChanged": ("POST", TASKS, {"json": {"title": "x"}, "headers": {"If-Match": '"1"'}}),
    "idTaken": ("POST", TASKS, {"json": {"id": TASK_ID, "title": "x"}}),
    "logShorter": ("GET", "/api/demo/audit/stream?after=9", {}),
    "fieldsChanged": ("POST", "/api/demo/undo", {"json": {"seq": 1}}),
    "changedSince": ("DELETE", "", {"headers": {"If-Match": '"1"'}}),
    "otherVersion": ("GET", "", {"headers": {"If-Match": '"1"'}}),
    "noVersion": ("POST", "/restore", {"json": {"version": 3}}),
    "keyReused": ("DELETE", "", {"headers": {"Idempotency-Key": "k"}}),
    "notDeleted": ("POST", "/erase", {}),
    "erased": ("POST", "/restore", {}),
}
"""The same, where there is a task at version 2, whose change had the key `k`."""


@pytest.mark.parametrize("name", OF_A_TASK)
async def test_an_example_of_an_error_about_a_task_is_what_is_really_answered(service: Service, name: str) -> None:
    method, path, options = OF_A_TASK[name]
    async with service.as_user("demo") as client:
        task = (await client.post(TASKS, json={"id": TASK_ID, "title": "x"})).headers["location"]
        await client.put(task, json={"title": "y"}, headers={"Idempotency-Key": "k"})
        if name == "erased":
            await client.delete(task)
            await client.post(f"{task}/erase")
        answer = await client.request(method, path if path.startswith("/api") else task + path, **options)
    assert answer.json() == {**FAULTS[name].value(), "request_id": answer.headers["x-request-id"]}


def test_every_other_error_is_the_services_own() -> None:
    provoked = PROVOKED.keys() | OF_A_TASK
    assert {fault.problem.status for name, fault in FAULTS.items() if name not in provoked} == {408, 429, 500, 503}


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if "requestBody" in operation])
async def test_the_examples_of_a_body_are_taken(service: Service, name: str) -> None:
    client = service.as_user("demo")
    task = (await client.post(TASKS, json={"title": "x"})).json()
    if name == "eraseTask":
        await client.delete(f"{TASKS}/{task['id']}")
    [(method, path)] = [
        (method, path)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if operation["operationId"] == name
    ]
    for each in OPERATIONS[name]["requestBody"]["content"]["application/json"]["examples"].values():
        url = path.format(user_id="demo", task_id=task["id"])
        assert (await client.request(method, url, json=each["value"])).is_success


async def test_the_documented_event_is_the_answered_one_in_pages_and_exports(service: Service) -> None:
    await service.client.post("/api/ann/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
    await service.client.request("DELETE", "/api/ann", json={"confirm": "ann"})
    made = (await service.client.post("/api/ann/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})).json()
    events = (await service.client.get("/api/ann/audit")).json()
    lines = (await service.client.get("/api/ann/audit?format=ndjson")).text.splitlines()
    example = json.loads(next(iter(NDJSON_LINES.values()))["value"])
    assert {each["type"] for each in events} == {"TaskCreated", "TaskErased", "UserErased"}
    found = [*(("AuditEvent", each) for each in events), *(("ExportedEvent", json.loads(each)) for each in lines)]
    for name, value in [*found, ("ExportedEvent", example)]:
        schema = DOCUMENT["components"]["schemas"][name]
        assert {*schema["required"]} <= value.keys() <= schema["properties"].keys()
        component(name).validate(value)
        whole = value["task_id"] == made["id"] or value is example
        assert whole == ([*value] == schema["required"])
    component("Head").validate((await service.client.get("/api/ann/audit/head")).json())


def test_the_documented_export_has_the_columns_that_it_has() -> None:
    [names, line] = csv.reader(io.StringIO(next(iter(CSV_FILE.values()))["value"], newline=""))
    assert (tuple(names), len(line)) == (CSV_COLUMNS, len(CSV_COLUMNS))


async def test_the_documented_task_is_the_answered_one(service: Service) -> None:
    task = (await service.client.post("/api/ann/tasks", json={"title": "x"})).json()
    assert list(DOCUMENT["components"]["schemas"]["Task"]["properties"]) == list(task)
    component("Task").validate(task)
    Task.model_validate(task)


WHITE_SPACE = "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
LOOKS_LIKE_IT = "\x1c\x1f\u180e\u200b\ufeff"
TITLES = st.text() | st.text(WHITE_SPACE + LOOKS_LIKE_IT + "\0x") | st.integers(250, 260).map("x".__mul__)


@given(title=TITLES, description=st.none() | st.text(WHITE_SPACE + "\0x") | st.integers(4999, 5001).map("x".__mul__))
@settings(deadline=None)
@example(title=WHITE_SPACE, description=None)
@example(title="\ufeff", description=None)
def test_what_fits_the_documented_schema_is_accepted_and_what_does_not_is_refused(
    title: str, description: str | None
) -> None:
    body = {"title": title, "description": description}
    fits = component("NewTask").is_valid(body)
    try:
        TypeAdapter(NewTask).validate_python(body)
    except ValidationError:
        assert not fits
    else:
        # Too long only by the white space around it is fine with us; the document needn't invite it.
        assert fits or len(title) > 255


def test_the_snapshot_is_what_the_app_says() -> None:
    assert SNAPSHOT.read_text() == text(), "docs/openapi.json is out of date: write it anew with `make openapi`"


async def test_the_document_is_served(service: Service) -> None:
    assert (await service.client.get("/openapi.json")).json() == DOCUMENT
