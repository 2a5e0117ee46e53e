"""The documents name every setting, route, command, problem and event type, and name nothing that doesn't exist."""

import pkgutil
import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.metrics import MetricWrapperBase

from api.app import create_app
from api.audit_schemas import EventType
from api.problems import Problem
from cli.main import app
from config.settings import VARIABLES
from events.task import ErasedContent, TaskEvent
from telemetry import metrics
from tests.guides import GUIDES, filled
from tests.service import settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("bench/*.md"),
        *ROOT.glob("clients/*/*.md"),
        *ROOT.glob("examples/*/*.md"),
    ]
)
PACKAGES = ("api", "bench", "cli", "commands", "config", "db", "events", "queries", "telemetry", "tests")
README = (ROOT / "README.md").read_text()
ERRORS = (ROOT / "docs/guides/errors.md").read_text()
OPERATE = (ROOT / "docs/guides/operate.md").read_text()


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_setting_is_in_the_readme_and_in_the_example(variable: str) -> None:
    assert f"`{variable}`" in README
    assert variable in (ROOT / ".env.example").read_text()


def test_every_route_is_in_the_readme() -> None:
    for path, operations in create_app(settings("postgresql://h/d")).openapi()["paths"].items():
        for method in map(str.upper, operations):
            row = rf"`{method}` or .* {re.escape(path)}`|`[^`]*{method}[^`]* {re.escape(path)}`"
            assert re.search(row, README), (method, path)


COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"daybook {command}" in README


@pytest.mark.parametrize("problem", Problem.__subclasses__())
def test_every_problem_is_in_the_guide(problem: type[Problem]) -> None:
    assert re.search(rf"`/problems/{problem.type}` \| {problem.status} ", ERRORS)


@pytest.mark.parametrize("payload", [each for each in get_args(TaskEvent) if each is not ErasedContent])
def test_every_event_type_is_in_the_readme_and_in_the_document(payload: type) -> None:
    assert f"`{payload.__name__}`" in README
    assert payload.__name__ in get_args(EventType)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)[)#]", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)


def test_every_link_to_a_heading_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text()):
            headings = re.findall(r"(?m)^#+ (.+)$", (document.parent / target if target else document).read_text())
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, (document.name, target, anchor)


def is_there(name: str) -> bool:
    """Say if a path (with `*` for any text), or the dotted name of a module or of a name in it, exists."""
    if "/" in name:
        return any(ROOT.glob(name))
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


NAME = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'deploy', 'docs'))})(?:/[\w./*-]*|(?:\.\w+)+))(?:\(\))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_module_and_name_in_a_document_exists(document: Path) -> None:
    assert not [name for name in NAME.findall(document.read_text()) if not is_there(name)]


def test_every_partition_in_a_document_is_one_that_a_release_makes() -> None:
    number = re.findall(r"modulus (\d+)", (ROOT / "db/schema.sql").read_text())[0]
    for document in DOCUMENTS:
        for partition in re.findall(r"\b(?:events|tasks)_p(\d\d)\b", document.read_text()):
            assert int(partition) < int(number), document.name


def test_every_word_of_the_glossary_has_one_row_and_a_place_in_the_code() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"(?m)^\| (?!word ).+$", text)]
    assert all(is_there(where.strip("`")) for _, _, where in rows)
    assert len(rows) == len({word for word, _, _ in rows})


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.name))
def test_the_code_in_the_guides_to_frontends_is_the_examples(guide: Path) -> None:
    assert filled(guide.read_text()) == guide.read_text(), "run `make guides`"


SOURCES = [path for path in ROOT.glob("[a-z]*/**/*.py") if "node_modules" not in path.parts]
REFERENCES = {
    found for path in SOURCES for found in re.findall(r'((?:docs/[\w/-]+|README)\.md), "([^"]+)"', path.read_text())
}


@pytest.mark.parametrize(("document", "heading"), sorted(REFERENCES))
def test_every_reference_to_a_heading_leads_somewhere(document: str, heading: str) -> None:
    assert heading in re.findall(r"(?m)^#+ (.+)$", (ROOT / document).read_text())


LINES = {
    match
    for path in ROOT.glob("[a-z]*/**/*.py")
    if path.relative_to(ROOT).parts[0] in ("api", "cli", "commands", "config", "db", "events", "queries", "telemetry")
    for match in re.findall(r"_log\.(?:info|warning|error|exception)\(\s*\"([^\"]+)\"", path.read_text())
}
OF_DEVELOPMENT = {
    "a development key was made",
    "folder opened for passing through",
    "Postgres's files opened for reading",
}


@pytest.mark.parametrize("line", sorted(LINES))
def test_every_line_of_the_log_is_in_the_guide(line: str) -> None:
    beginning = line.partition(":")[0].partition(";")[0]
    assert beginning in OF_DEVELOPMENT or re.search(rf"^\| `{re.escape(beginning[:25])}", OPERATE, re.MULTILINE)


@pytest.mark.parametrize("metric", [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)])
def test_every_metric_is_in_the_guide(metric: MetricWrapperBase) -> None:
    assert next(iter(metric.describe())).name in OPERATE
