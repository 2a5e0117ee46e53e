"""A peer with Daybook's task endpoints, in FastAPI and SQLModel: async, over asyncpg, and without an audit log.

Written as the frameworks' own guides advise: one session for each request, response models checked by FastAPI, no
expiry of loaded objects, an index for the list, tokens verified with PyJWT. It reads `PEER_DATABASE_URL`,
`PEER_SECRET` and `PEER_POOL_SIZE`, and makes its table when it starts.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ARRAY, DateTime, Index, Text, desc
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from uuid_utils.compat import uuid7

engine = create_async_engine(
    os.environ["PEER_DATABASE_URL"], pool_size=int(os.environ["PEER_POOL_SIZE"]), max_overflow=0
)
new_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


Priority = Literal["low", "medium", "high"]
Tag = Annotated[str, Field(min_length=1, max_length=50)]


class TaskFields(SQLModel):
    title: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=5000)
    completed: bool = False
    priority: Priority | None = Field(default=None, sa_type=Text)
    due_date: str | None = Field(default=None, max_length=27)
    tags: list[Tag] = Field(default_factory=list, max_length=20, sa_type=ARRAY(Text))


def now() -> datetime:
    return datetime.now(UTC)


class Task(TaskFields, table=True):
    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_list", "user_id", desc("created_at"), desc("id")),)

    id: UUID = Field(default_factory=uuid7, primary_key=True)
    user_id: str
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    completed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class TaskRead(TaskFields):
    id: UUID
    user_id: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class TaskChanges(SQLModel):
    title: str | None = Field(default=None, min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=5000)
    completed: bool | None = None
    priority: Priority | None = None
    due_date: str | None = Field(default=None, max_length=27)
    tags: list[Tag] | None = Field(default=None, max_length=20)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


async def current_user(user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    try:
        claims = jwt.decode(
            credentials.credentials, os.environ["PEER_SECRET"], algorithms=["HS256"], options={"require": ["exp"]}
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "The token can't be verified.") from error
    if claims.get("sub") != user_id:
        raise HTTPException(403, "The token is another user's.")
    return user_id


User = Annotated[str, Depends(current_user)]
Session = Annotated[AsyncSession, Depends(session)]


async def _of(session: AsyncSession, user: str, task_id: UUID) -> Task:
    found = await session.exec(select(Task).where(Task.user_id == user, Task.id == task_id))
    task = found.first()
    if task is None:
        raise HTTPException(404, "There is no such task.")
    return task


@app.get("/api/{user_id}/tasks", response_model=list[TaskRead])
async def list_tasks(
    user: User,
    session: Session,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
    completed: bool | None = None,
) -> list[Task]:
    query = select(Task).where(Task.user_id == user)
    if completed is not None:
        query = query.where(Task.completed == completed)
    newest_first = query.order_by(col(Task.created_at).desc(), col(Task.id).desc())
    return list((await session.exec(newest_first.limit(limit).offset(offset))).all())


@app.post("/api/{user_id}/tasks", response_model=TaskRead, status_code=201)
async def create_task(user: User, session: Session, body: TaskFields) -> Task:
    task = Task(**body.model_dump(), user_id=user)
    task.completed_at = task.created_at if task.completed else None
    session.add(task)
    await session.commit()
    return task


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskRead)
async def get_task(user: User, session: Session, task_id: UUID) -> Task:
    return await _of(session, user, task_id)


@app.patch("/api/{user_id}/tasks/{task_id}", response_model=TaskRead)
async def update_task(user: User, session: Session, task_id: UUID, body: TaskChanges) -> Task:
    task = await _of(session, user, task_id)
    task.sqlmodel_update(body.model_dump(exclude_unset=True))
    task.updated_at = now()
    await session.commit()
    return task


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskRead)
async def toggle_task(user: User, session: Session, task_id: UUID) -> Task:
    task = await _of(session, user, task_id)
    task.completed = not task.completed
    task.updated_at = now()
    task.completed_at = task.updated_at if task.completed else None
    await session.commit()
    return task


@app.delete("/api/{user_id}/tasks/{task_id}", status_code=204)
async def delete_task(user: User, session: Session, task_id: UUID) -> None:
    await session.delete(await _of(session, user, task_id))
    await session.commit()
