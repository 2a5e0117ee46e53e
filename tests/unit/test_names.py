"""A public name means one thing: no two modules define it, unless a reason is given here."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.unit.test_layout import PACKAGES, ROOT

_ON_THE_WIRE = "the thing itself, and on the wire: the class names the schema in the OpenAPI document"

_ROUTERS = ("accesses", "audit", "batch", "erasure", "feed", "health", "keys", "restore", "sync", "tasks", "undo")

ON_PURPOSE = {
    "Head": ("api.audit_schemas events.hash_chain", _ON_THE_WIRE),
    "Task": ("api.schemas events.task", _ON_THE_WIRE),
    "router": (
        " ".join(f"api.routers.{each}" for each in _ROUTERS),
        "FastAPI's custom: the routes of a module",
    ),
}
"""Names with one meaning in several modules: these modules, and the reason."""


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module defines at its top level, also under `if` and `try`; imports define none."""
    for statement in body:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield statement.name
            case ast.Assign(targets=targets):
                yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If() | ast.Try() | ast.With():
                for branch in ("body", "orelse", "finalbody"):
                    yield from defined(getattr(statement, branch, []))


def test_no_public_name_is_defined_in_two_modules() -> None:
    found = defaultdict[str, set[str]](set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "migrations" not in path.parts:
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                for name in defined(ast.parse(path.read_text()).body):
                    found[name].add(module)
    several = {name: modules for name, modules in found.items() if len(modules) > 1 and not name.startswith("_")}
    assert several == {name: set(modules.split()) for name, (modules, _) in ON_PURPOSE.items()}
