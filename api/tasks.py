"""The task endpoints (contract, sections 1, 4 and 5): thin, each one command or one query."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from uuid_utils.compat import uuid7

from api import answers
from api.auth import CurrentUser
from api.bodies import json_body, optional_json_body
from api.conditions import IfMatch, has_condition, matches
from api.errors import BadRequest, NotFound
from api.models import Completion, ListParameters, NewTask, PastParameters, Restoration, Task, TaskChanges, TaskId
from api.pages import cursor, here, next_link, selection, start
from api.routes import Route
from api.state import Database, RequestOrigin
from commands.execute import execute
from commands.task import CreateTask, DeleteTask, RestoreTask, ToggleTask, UpdateTask
from events import log
from events.past import task_at
from events.task import Fields
from queries import tasks as query

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=Route)


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
    """The user's tasks, newest first unless asked otherwise. `Link` leads to the next page, if there is one.

    With `as_of`, as they were at that moment. The `ETag` changes with every change to any of the user's tasks.
    """
    chosen = selection(parameters)
    if parameters.cursor is not None and parameters.offset is not None:
        raise BadRequest("cursor and offset exclude each other; give one of the two.")
    after = None if parameters.cursor is None else start(chosen, parameters.cursor)
    if has_condition(request) and matches(request, seq := await log.head(database, user)):
        return answers.not_modified(seq)
    page = await query.list_tasks(
        database,
        user,
        completed=chosen.completed,
        words=chosen.words,
        sort=chosen.sort,
        order=chosen.order,
        limit=parameters.limit,
        offset=parameters.offset or 0,
        after=after,
        as_of=chosen.as_of,
    )
    link = {"Link": next_link(request, "cursor", cursor(chosen, page.end), instead_of="offset")} if page.end else None
    return answers.of_read(request, page.body, page.seq, link)


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
    outcome = await execute(database, command, actor=user, origin=origin)
    task_id = outcome.task.id if outcome.task else command.task_id
    return answers.of_write(outcome, status=201, headers={"Location": f"{here(request)}/{task_id}"})


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="Get a task",
    response_model=Task,
    response_description="The task",
)
async def get_task(
    request: Request,
    user: CurrentUser,
    database: Database,
    task_id: TaskId,
    parameters: Annotated[PastParameters, Query()],
) -> Response:
    """One task as it is; with `as_of` or `version`, as it was, also where it has been deleted since."""
    version, as_of = parameters.version, parameters.as_of
    if version is None and as_of is None:
        found = await query.get(database, user, task_id)
        if found is None:
            raise NotFound(f"There is no task {task_id}.")
        return answers.of_read(request, found[1], found[0])
    if version is not None and as_of is not None:
        raise BadRequest("as_of and version exclude each other; give one of the two.")
    task = await task_at(database, user, task_id, version=version, at=as_of)
    if task is None:
        when = "then" if version is None else f"at version {version}"
        raise NotFound(f"There was no task {task_id} {when}.")
    return answers.of_read(request, query.as_json(task), task.version)


async def _update(
    user: CurrentUser,
    database: Database,
    origin: RequestOrigin,
    task_id: TaskId,
    versions: IfMatch,
    body: Annotated[TaskChanges, Depends(json_body(TaskChanges))],
) -> Response:
    """Change the fields that are given; what is left out keeps its value."""
    fields: Fields = {**body}
    command = UpdateTask(user_id=user, task_id=task_id, fields=fields, versions=versions)
    return answers.of_write(await execute(database, command, actor=user, origin=origin))


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
    versions: IfMatch,
    body: Annotated[Completion | None, Depends(optional_json_body(Completion))],
) -> Response:
    """Turn `completed` over; with a body, set it, which is safe to repeat."""
    completed = body.get("completed") if body else None
    command = ToggleTask(user_id=user, task_id=task_id, completed=completed, versions=versions)
    return answers.of_write(await execute(database, command, actor=user, origin=origin))


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    summary="Delete a task",
    status_code=204,
    response_description="The task is gone from the lists",
)
async def delete_task(
    user: CurrentUser, database: Database, origin: RequestOrigin, task_id: TaskId, versions: IfMatch
) -> Response:
    """Delete a task. The log keeps it, and `restore` brings it back."""
    command = DeleteTask(user_id=user, task_id=task_id, versions=versions)
    return answers.of_write(await execute(database, command, actor=user, origin=origin))


@router.post(
    "/{task_id}/restore",
    operation_id="restoreTask",
    summary="Bring a task back, or to an earlier version",
    response_model=Task,
    response_description="The task as it is now",
)
async def restore_task(
    user: CurrentUser,
    database: Database,
    origin: RequestOrigin,
    task_id: TaskId,
    versions: IfMatch,
    body: Annotated[Restoration | None, Depends(optional_json_body(Restoration))],
) -> Response:
    """Bring a deleted task back, or an existing one to what it was at `version`, as a new event."""
    version = body.get("version") if body else None
    command = RestoreTask(user_id=user, task_id=task_id, version=version, versions=versions)
    return answers.of_write(await execute(database, command, actor=user, origin=origin))
