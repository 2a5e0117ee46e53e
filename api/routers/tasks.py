"""The task endpoints: each makes one command or one query (docs/http-api.md, "Tasks")."""

from hashlib import sha256
from typing import Annotated, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from uuid_utils.compat import uuid7

from api import examples, responses
from api.dependencies import CurrentCaller
from api.openapi import (
    OF_AUDIT,
    OF_BODY,
    OF_CONDITION,
    OF_EVENT,
    OF_TASK,
    OF_WRITE,
    answer,
    conditional,
    headers,
    problems,
    writes,
)
from api.pagination import here, list_query, next_list
from api.parameters import (
    CompletionParameters,
    ListParameters,
    PastParameters,
    RestorationParameters,
    StatsParameters,
    TaskId,
)
from api.preconditions import has_condition, matches
from api.problems import BadRequest, NotFound
from api.readers import CurrentReader
from api.request_body import json_body, optional_json_body
from api.routing import Route
from api.schemas import Completion, NewTask, Restoration, Stats, Task, TaskChanges
from api.server import unsent
from api.server.disconnects import while_connected
from api.user_turns import give_turn_back
from api.writes import Write
from commands.commands import CreateTask, DeleteTask, RestoreTask, ToggleTask, UpdateTask
from commands.precondition import EntityTag
from events.projection import task_document
from events.store.past import task_at
from events.task import Fields
from queries import as_of, stats
from queries import tasks as query

_Value = TypeVar("_Value", bool, int)

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=Route)

_OF_CHANGE = (*OF_WRITE, *OF_TASK, "changedSince")
"""Problems of every write to a task."""

_NOT_MODIFIED = {"description": "What the client has is still true", **headers("ETag")}


@router.get(
    "",
    operation_id="listTasks",
    summary="List tasks",
    response_model=list[Task],
    response_description="The tasks, or a page of them",
    responses={
        200: answer(examples.TASK_LIST, "Link", "ETag"),
        **problems(
            *OF_AUDIT,
            "notForAuditors",
            *OF_CONDITION,
            "badParameter",
            "badCursor",
            "otherCursor",
            "contradiction",
            "noMoment",
        ),
        304: _NOT_MODIFIED,
    },
    openapi_extra=conditional(),
)
async def list_tasks(
    reader: CurrentReader,
    parameters: Annotated[ListParameters, Query()],
) -> Response:
    """The user's tasks, newest first unless asked otherwise. `Link` leads to the next page, if there is one.

    With `as_of`, as they were at that moment. The `ETag` changes with every change to any of the user's tasks.
    """
    asked = list_query(parameters)
    caller = reader.present() if asked.as_of is None else await reader.past()
    request, user = caller.request, caller.user
    if has_condition(request) and asked.overdue is None:
        head = await caller.store.head(user)
        if matches(request, tag := EntityTag(head.seq, head.hash)):
            return responses.not_modified(tag)
    unsent.require_room(caller.requester)
    is_long = asked.as_of is not None or asked.looks_at_all
    if is_long:
        give_turn_back(request.scope)
    if asked.as_of is None:
        reading = query.fetch_tasks(caller.pool, caller.scans, user, asked)
    else:
        reading = as_of.fetch_past_tasks(caller.pool, caller.store, user, asked)
    page = await (while_connected(request, reading) if is_long else reading)
    link = {"Link": next_list(request, asked, page.end, page.head.seq)} if page.end else None
    # What is overdue changes with time, without an event.
    hash_ = page.head.hash if asked.overdue is None else sha256(page.body).digest()
    return responses.of_read(request, page.body, EntityTag(page.head.seq, hash_), link)


@router.post(
    "",
    operation_id="createTask",
    summary="Create a task",
    status_code=201,
    response_model=Task,
    response_description="The task was created",
    responses={
        201: answer(examples.NEW_TASK, "Location", "ETag", *OF_EVENT),
        **problems(*OF_WRITE, *OF_BODY, "listChanged", "invalid", "idTaken"),
    },
    openapi_extra=writes(NewTask, examples.NEW_TASKS),
)
async def create_task(write: Write, body: Annotated[NewTask, Depends(json_body(NewTask))]) -> Response:
    """Create a task. `Location` is where it can be found. The client may choose its `id`, a new UUID."""
    fields = cast("Fields", body.model_dump(exclude={"id"}))
    task_id = body.id or uuid7()
    command = CreateTask(user_id=write.user, task_id=task_id, fields=fields, precondition=write.precondition)
    outcome = await write.execute(command)
    task_id = outcome.task.id if outcome.task else task_id
    return responses.of_write(outcome, status=201, headers={"Location": f"{here(write.request)}/{task_id}"})


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="Get a task",
    response_model=Task,
    response_description="The task",
    responses={
        200: answer(examples.TASK, "ETag"),
        **problems(*OF_TASK, *OF_AUDIT, "notForAuditors", *OF_CONDITION, "twoPasts", "noMoment", "notThen", "erased"),
        304: _NOT_MODIFIED,
    },
    openapi_extra=conditional(),
)
async def get_task(
    reader: CurrentReader,
    task_id: TaskId,
    parameters: Annotated[PastParameters, Query()],
) -> Response:
    """One task as it is; with `as_of` or `version`, as it was, also where it has been deleted since."""
    version, moment = parameters.version, parameters.as_of
    if version is None and moment is None:
        caller = reader.present()
        found = await query.get(caller.store, caller.user, task_id)
        if found is None:
            raise NotFound(hint=f"There is no task {task_id}.")
        return responses.of_read(caller.request, found.body, EntityTag(found.version, found.hash))
    if version is not None and moment is not None:
        raise BadRequest(hint="as_of and version exclude each other; give one of the two.")
    caller = await reader.past()
    request = caller.request
    then = await while_connected(request, task_at(caller.store, caller.user, task_id, version=version, at=moment))
    if then is None:
        when = "then" if version is None else f"at version {version}"
        raise NotFound(hint=f"There was no task {task_id} {when}.")
    return responses.of_read(request, task_document(then.task), EntityTag(then.task.version, then.hash))


async def _update(
    write: Write, task_id: TaskId, body: Annotated[TaskChanges, Depends(json_body(TaskChanges))]
) -> Response:
    """Change the fields that are given; what is left out keeps its value."""
    fields: Fields = {**body}
    command = UpdateTask(user_id=write.user, task_id=task_id, fields=fields, precondition=write.precondition)
    return responses.of_write(await write.execute(command))


for _method, _operation, _bodies in (
    ("PUT", "putTask", examples.ALL_FIELDS),
    ("PATCH", "patchTask", examples.SOME_FIELDS),
):
    router.add_api_route(
        "/{task_id}",
        _update,
        methods=[_method],
        operation_id=_operation,
        name=_operation,
        summary="Change a task",
        response_model=Task,
        response_description="The task as it is now",
        responses={
            200: answer(examples.CHANGED_TASK, "ETag", *OF_EVENT),
            **problems(*_OF_CHANGE, *OF_BODY, "invalid", "noKnownField"),
        },
        openapi_extra=writes(TaskChanges, _bodies),
    )


def _stated(request: Request, name: str, in_body: _Value | None, in_query: _Value | None) -> _Value | None:
    """Return the field's value from body or query; None if the request gives none. Raises `BadRequest` if they differ.

    A query with only unknown parameters is refused, like such a body: `?done=true` must not reopen a completed task.
    """
    if in_body is not None and in_query is not None and in_body != in_query:
        raise BadRequest(hint=f"{name} is one thing in the body and another in the query; give one of the two.")
    value = in_query if in_body is None else in_body
    if value is None and request.query_params:
        raise BadRequest(hint=f"The query names no parameter that is known here. There is: {name}.")
    return value


@router.patch(
    "/{task_id}/complete",
    operation_id="completeTask",
    summary="Complete a task, or reopen it",
    response_model=Task,
    response_description="The task as it is now",
    responses={
        200: answer(examples.COMPLETED_TASK, "ETag", *OF_EVENT),
        **problems(*_OF_CHANGE, *OF_BODY, "notBoolean", "otherQuery"),
    },
    openapi_extra=writes(Completion, examples.COMPLETIONS, required=False),
)
async def complete_task(
    write: Write,
    task_id: TaskId,
    parameters: Annotated[CompletionParameters, Query()],
    body: Annotated[Completion | None, Depends(optional_json_body(Completion))],
) -> Response:
    """Turn `completed` over; with a body, set it, which is safe to repeat."""
    completed = _stated(write.request, "completed", body.get("completed") if body else None, parameters.completed)
    command = ToggleTask(user_id=write.user, task_id=task_id, completed=completed, precondition=write.precondition)
    return responses.of_write(await write.execute(command))


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    summary="Delete a task",
    status_code=204,
    response_description="The task is gone from the lists",
    responses={204: headers(*OF_EVENT), **problems(*_OF_CHANGE)},
    openapi_extra=writes(),
)
async def delete_task(write: Write, task_id: TaskId) -> Response:
    """Delete a task. The log keeps it, and `restore` brings it back."""
    command = DeleteTask(user_id=write.user, task_id=task_id, precondition=write.precondition)
    return responses.of_write(await write.execute(command))


@router.post(
    "/{task_id}/restore",
    operation_id="restoreTask",
    summary="Bring a task back, or to an earlier version",
    response_model=Task,
    response_description="The task as it is now",
    responses={
        200: answer(examples.RESTORED_TASK, "ETag", *OF_EVENT),
        **problems(*_OF_CHANGE, *OF_BODY, "noVersion", "erased"),
    },
    openapi_extra=writes(Restoration, examples.RESTORATIONS, required=False),
)
async def restore_task(
    write: Write,
    task_id: TaskId,
    parameters: Annotated[RestorationParameters, Query()],
    body: Annotated[Restoration | None, Depends(optional_json_body(Restoration))],
) -> Response:
    """Bring a deleted task back, or an existing one to what it was at `version`, as a new event."""
    version = _stated(write.request, "version", body.get("version") if body else None, parameters.version)
    command = RestoreTask(user_id=write.user, task_id=task_id, version=version, precondition=write.precondition)
    return responses.of_write(await while_connected(write.request, write.execute(command)))


@router.get(
    "/stats",
    operation_id="countTasks",
    summary="Count tasks",
    response_model=Stats,
    response_description="The counts",
    responses={
        200: answer(examples.TASK_COUNTS, "ETag"),
        **problems(*OF_CONDITION, "notForAuditors", "badParameter"),
        304: _NOT_MODIFIED,
    },
    openapi_extra=conditional(),
)
async def count_tasks(caller: CurrentCaller, parameters: Annotated[StatsParameters, Query()]) -> Response:
    """How many of the user's tasks there are, are completed, are overdue, and have each priority and each tag."""
    request, user = caller.request, caller.user
    unsent.require_room(user)
    give_turn_back(request.scope)
    reading = stats.fetch_stats(caller.pool, caller.scans, user, parameters.tz or query.UTC_ZONE)
    body = await while_connected(request, reading)
    return responses.of_read(request, body, EntityTag(0, sha256(body).digest()))
