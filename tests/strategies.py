"""Hypothesis strategies for tasks and events."""

from datetime import UTC, datetime
from typing import cast

from hypothesis import strategies as st

from events.serialization import rfc3339
from events.task import (
    FIELDS,
    Event,
    Fields,
    Metadata,
    Priority,
    TaskCreated,
    TaskDeleted,
    TaskEvent,
    TaskRestored,
    TaskToggled,
    TaskUpdated,
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
titles = text.map(str.strip).filter(bool)
descriptions = st.none() | text
priorities: st.SearchStrategy[Priority | None] = st.sampled_from([None, "low", "medium", "high"])
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by hypothesis' rule
due_dates = st.none() | st.dates().map(str) | st.datetimes(timezones=st.just(UTC)).map(rfc3339)
_lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)
tags = st.lists(_lines.map(lambda begins: f"{begins}x".strip()), max_size=20, unique=True)

accepted = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"), max_size=40)
"""What the API takes; a log may hold more, of before it was so strict."""
accepted_titles = accepted.map(lambda begins: f"{begins}x".strip())
accepted_descriptions = st.none() | accepted


@st.composite
def changes(
    draw: st.DrawFn,
    titles: st.SearchStrategy[str] = titles,
    descriptions: st.SearchStrategy[str | None] = descriptions,
) -> TaskUpdated:
    names = draw(st.sets(st.sampled_from(FIELDS), min_size=1))
    before, after = (draw(all_fields(titles, descriptions)) for _ in range(2))
    old, new = dict(before), dict(after)
    always = ("title", "description", "completed")  # the others are written only if they aren't empty on both sides
    kept = [name for name in FIELDS if name in names and (name in always or old[name] or new[name])]
    return TaskUpdated(
        cast("Fields", {name: old[name] for name in kept}), cast("Fields", {name: new[name] for name in kept})
    )


def all_fields(
    titles: st.SearchStrategy[str] = titles, descriptions: st.SearchStrategy[str | None] = descriptions
) -> st.SearchStrategy[Fields]:
    return st.builds(
        Fields,
        title=titles,
        description=descriptions,
        completed=st.booleans(),
        priority=priorities,
        due_date=due_dates,
        tags=tags,
    )


@st.composite
def restorations(draw: st.DrawFn) -> TaskRestored:
    change = draw(changes())
    brought_back = draw(st.booleans())
    return TaskRestored(
        version=draw(st.integers(1, 2**31 - 1)),
        created_at=draw(moments),
        before={} if brought_back else change.before,
        after=draw(all_fields()) if brought_back else change.after,
    )


facts: st.SearchStrategy[TaskEvent] = st.one_of(
    all_fields().map(lambda fields: TaskCreated(**fields)),
    changes(),
    st.builds(TaskToggled, st.booleans()),
    all_fields().map(lambda fields: TaskDeleted(**fields)),
    restorations(),
)

events = st.builds(
    Event,
    id=st.uuids(),
    user_id=titles,
    task_id=st.uuids(),
    version=st.integers(1, 2**31 - 1),
    at=moments,
    actor=titles,
    payload=facts,
    metadata=st.builds(
        Metadata,
        request_id=descriptions,
        client_address=descriptions,
        client_agent=descriptions,
        idempotency_key=descriptions,
        fingerprint=st.none() | st.binary(min_size=32, max_size=32),
    ),
    salt=st.binary(min_size=16, max_size=16),
)
