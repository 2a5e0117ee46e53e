"""A spreadsheet runs no cell of the CSV, with comma, semicolon or tab between cells, as LibreOffice offers them."""

import re

import pytest
from uuid_utils.compat import uuid7

from commands.commands import CreateTask
from commands.handler import handle
from events.task import Metadata
from tests.arrange import store_of
from tests.service import Service

pytestmark = pytest.mark.once

FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", '=HYPERLINK("http://x","y")', "=cmd|'/c calc'!A1", "\uff1d1+1", "\uff0b1"]
TEXTS = ["'it", "''", '"a", b', 'a"', ";", "a;=1+1;b", "a\t=1+1", "\x01=1+1", "\x7f+1", "=1\n=2", "\N{GRINNING FACE}"]
BEFORE = ["", " ", "\t", "\n", "\r", "\r\n", " \x01 ", "\x0c", "\x1c", "\u3000", "x\n", "x\r\n", "x;", 'x"\n', ";\t"]


CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",;\t\r\n][^,;\t\r\n]*)?)([,;\t]|\r\n|\r|\n|\Z)')


def cells(text: str) -> list[list[str]]:
    """Split into cells: a quote opens one only at its start, and is doubled inside; line ends count outside quotes."""
    rows: list[list[str]] = [[]]
    for quoted, bare, end in CELL.findall(text):
        rows[-1].append(quoted.replace('""', '"') or bare)
        if end not in (",", ";", "\t"):
            rows.append([])
    return rows[:-2]  # behind the last line end is nothing


def runs(cell: str) -> bool:
    """Say if a cell is a formula, or becomes one when control characters are dropped."""
    return re.sub(r"[\0-\x1f\x7f]", "", cell).lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b"))


@pytest.mark.parametrize("before", BEFORE)
async def test_no_cell_is_a_formula_and_each_is_the_text_that_was_written(service: Service, before: str) -> None:
    texts = [f"{before}{text}" for text in FORMULAS + TEXTS]
    for text in texts:  # also what the API refuses by now: a log keeps what was once taken
        create = CreateTask(user_id="ann", task_id=uuid7(), fields={"title": text, "description": text})
        await handle(store_of(service.pool), create, actor="ann", metadata=Metadata())

    names, *rows = cells((await service.client.get("/api/ann/audit?format=csv&order=asc")).text)

    assert {len(row) for row in rows} == {len(names)}
    assert not [cell for row in rows for cell in row if runs(cell)]
    for column in ("title_to", "description_to"):
        assert [row[names.index(column)].removeprefix("'") for row in rows] == texts
