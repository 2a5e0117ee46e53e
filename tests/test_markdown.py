"""The form of the Markdown files: their lines, their tables, and code blocks that work."""

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pglast
import pytest
import typer.main

from cli.main import app
from tests.service import Service
from tests.test_docs import DOCUMENTS, ROOT

WIDTH = 100
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined] # it is a group
}


class Block(NamedTuple):
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[2], dedent(found[3]))
        for found in re.finditer(r"(?ms)^( *)```(\w*)\n(.*?)^\1```$", text)
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def of(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == language], ids=str)


def output(text: str, *command: str) -> str:
    """Run the command with this input, and return its output."""
    ended = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_block_is_closed_and_of_a_language_that_is_known_here() -> None:
    for document in DOCUMENTS:
        assert len(re.findall(r"(?m)^ *```", document.read_text())) == 2 * len(blocks_of(document)), document
    assert {block.language for block in BLOCKS} <= {
        "",
        "js",
        "json",
        "mermaid",
        "nginx",
        "python",
        "sh",
        "sql",
        "ts",
        "tsx",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_and_cells_are_short(document: Path) -> None:
    text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", document.read_text())
    for line in text.splitlines():
        if line.lstrip().startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
            assert not [cell for cell in cells if len(cell) > WIDTH or ". " in cell]
        else:
            assert len(line) <= WIDTH or " " not in line.strip(), line


@of("json")
def test_json_can_be_read(block: Block) -> None:
    json.loads(block.text)


@of("sql")
def test_sql_can_be_read(block: Block) -> None:
    pglast.parse_sql(block.text)


@of("mermaid")
def test_a_picture_has_no_semicolon_which_would_end_its_statement(block: Block) -> None:
    assert ";" not in block.text


@of("python")
async def test_python_runs(block: Block, database: str, service: Service, tmp_path: Path) -> None:
    """The block runs on a database with one task; its standard input is an export of the log, oldest event first."""
    (await service.client.post("/api/ann/tasks", json={"title": "Buy milk"})).raise_for_status()
    export = (await service.client.get("/api/ann/audit?format=ndjson&order=asc")).raise_for_status().text
    program = tmp_path / "block.py"
    program.write_text(block.text.replace("postgresql://…", database))
    printed = output(export, sys.executable, str(program))
    assert re.findall(r"print\(.*\)  # (.*)", block.text) in ([], printed.splitlines())


@of("sh")
def test_shell_can_be_read(block: Block) -> None:
    output(block.text, "bash", "-n")


def command_lines(program: str) -> set[str]:
    """Return what follows the program in each shell block and code span, up to a pipe, a comment or the like."""
    return {
        found.strip()
        for document in DOCUMENTS
        for text in (*re.findall(r"`([^`\n]+)`", document.read_text()), *(block.text for block in blocks_of(document)))
        for line in text.splitlines()
        for found in re.findall(rf"(?:^|[ /(]){program} ([a-z-]+[^|;&)]*)", line.partition(" #")[0])
    }


def test_every_command_and_option_exists() -> None:
    lines = command_lines("daybook")
    assert len(lines) > len(OPTIONS)
    for command, *words in map(str.split, lines):
        assert command in OPTIONS
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= {*OPTIONS[command], "--help"}


def test_every_verb_of_make_exists() -> None:
    verbs = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert {line.split()[0] for line in command_lines("make")} <= verbs
