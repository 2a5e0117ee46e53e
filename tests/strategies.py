"""Hypothesis strategies for tasks and events."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from events.task import (
    Event,
    Fields,
    Metadata,
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
    names = draw(st.sets(st.sampled_from(["title", "description", "completed"]), min_size=1))
    before, after = Fields(), Fields()
    for fields in (before, after):
        if "title" in names:
            fields["title"] = draw(titles)
        if "description" in names:
            fields["description"] = draw(descriptions)
        if "completed" in names:
            fields["completed"] = draw(st.booleans())
    return TaskUpdated(before, after)


@st.composite
def restorations(draw: st.DrawFn) -> TaskRestored:
    change = draw(changes())
    brought_back = draw(st.booleans())
    return TaskRestored(
        version=draw(st.integers(1, 2**31 - 1)),
        created_at=draw(moments),
        before={} if brought_back else change.before,
        after=Fields(title=draw(titles), description=draw(descriptions), completed=draw(st.booleans()))
        if brought_back
        else change.after,
    )


moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by hypothesis' rule

facts: st.SearchStrategy[TaskEvent] = st.one_of(
    st.builds(TaskCreated, titles, descriptions, st.booleans()),
    changes(),
    st.builds(TaskToggled, st.booleans()),
    st.builds(TaskDeleted, titles, descriptions, st.booleans()),
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
