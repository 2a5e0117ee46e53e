"""The task endpoints (contract, section 1): thin, each one command or one query."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from uuid_utils.compat import uuid7

from api.auth import CurrentUser
from api.bodies import json_body, optional_json_body
from api.errors import BadRequest, NotFound
from api.examples import TASK_ID
from api.models import Completion, ListParameters, NewTask, Task, TaskChanges
from api.pages import cursor, here, next_link, selection, start
from api.state import Database, RequestOrigin
from commands.execute import execute
from commands.task import CreateTask, DeleteTask, ToggleTask, UpdateTask
from events import task as domain
from events.codec import rfc3339
from events.task import Fields
from queries import tasks as query

TaskId = Annotated[UUID, Path(description="the task's id", examples=[TASK_ID])]


router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"])


@router.get(
    "",
    operation_id="listTasks",
    summary="List tasks",
    response_model=list[Task],
    response_description="The tasks, or a page of them",
)
async def list_tasks(
    request: Request,
    user: CurrentUser,
    database: Database,
    parameters: Annotated[ListParameters, Query()],
) -> Response:
    """The user's tasks, newest first unless asked otherwise. `Link` leads to the next page, if there is one."""
    chosen = selection(parameters)
    if parameters.cursor is not None and parameters.offset is not None:
        raise BadRequest("cursor and offset exclude each other; give one of the two.")
    page = await query.list_tasks(
        database,
        user,
        completed=chosen.completed,
        words=chosen.words,
        sort=chosen.sort,
        order=chosen.order,
        limit=parameters.limit,
        offset=parameters.offset or 0,
        after=None if parameters.cursor is None else start(chosen, parameters.cursor),
    )
    headers = {"Link": next_link(request, cursor(chosen, page.end))} if page.end else None
    return Response(page.body, headers=headers, media_type="application/json")


@router.post(
    "",
    operation_id="createTask",
    summary="Create a task",
    status_code=201,
    response_model=Task,
    response_description="The task was created",
)
async def create_task(
    request: Request,
    user: CurrentUser,
    database: Database,
    origin: RequestOrigin,
    body: Annotated[NewTask, Depends(json_body(NewTask))],
) -> Response:
    """Create a task. `Location` is where it can be found."""
    command = CreateTask(
        user_id=user,
        task_id=uuid7(),
        title=body.title,
        description=body.description,
        completed=body.completed,
    )
    task = await execute(database, command, actor=user, origin=origin)
    return _answer(task.task, status=201, headers={"Location": f"{here(request)}/{command.task_id}"})


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="Get a task",
    response_model=Task,
    response_description="The task",
)
async def get_task(user: CurrentUser, database: Database, task_id: TaskId) -> Response:
    """One task."""
    body = await query.get(database, user, task_id)
    if body is None:
        raise NotFound(f"There is no task {task_id}.")
    return Response(body, media_type="application/json")


async def _update(
    user: CurrentUser,
    database: Database,
    origin: RequestOrigin,
    task_id: TaskId,
    body: Annotated[TaskChanges, Depends(json_body(TaskChanges))],
) -> Response:
    """Change the fields that are given; what is left out keeps its value."""
    fields: Fields = {**body}
    command = UpdateTask(user_id=user, task_id=task_id, fields=fields)
    return _answer((await execute(database, command, actor=user, origin=origin)).task)


for _method, _operation in (("PUT", "putTask"), ("PATCH", "patchTask")):
    router.add_api_route(
        "/{task_id}",
        _update,
        methods=[_method],
        operation_id=_operation,
        name=_operation,
        summary="Change a task",
        response_model=Task,
        response_description="The task as it is now",
    )


@router.patch(
    "/{task_id}/complete",
    operation_id="completeTask",
    summary="Complete a task, or reopen it",
    response_model=Task,
    response_description="The task as it is now",
)
async def complete_task(
    user: CurrentUser,
    database: Database,
    origin: RequestOrigin,
    task_id: TaskId,
    body: Annotated[Completion | None, Depends(optional_json_body(Completion))],
) -> Response:
    """Turn `completed` over; with a body, set it, which is safe to repeat."""
    command = ToggleTask(user_id=user, task_id=task_id, completed=body.get("completed") if body else None)
    return _answer((await execute(database, command, actor=user, origin=origin)).task)


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    summary="Delete a task",
    status_code=204,
    response_description="The task is gone from the lists",
)
async def delete_task(user: CurrentUser, database: Database, origin: RequestOrigin, task_id: TaskId) -> Response:
    """Delete a task. The log keeps it."""
    await execute(database, DeleteTask(user_id=user, task_id=task_id), actor=user, origin=origin)
    return Response(status_code=204)


def _answer(task: domain.Task | None, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A task as a write left it, byte for byte of the same meaning as queries.tasks gives it."""
    assert task is not None  # noqa: S101 - only a deletion leaves none
    body = {
        "id": str(task.id),
        "user_id": task.user_id,
        "title": task.title,
        "description": task.description,
        "completed": task.completed,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "version": task.version,
    }
    return Response(orjson.dumps(body), status, headers, "application/json")
