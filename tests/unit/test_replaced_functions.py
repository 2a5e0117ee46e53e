"""No test replaces a function, a method or a class of ours. It may set a constant, or what others made."""

import ast
import pkgutil
import re
from collections.abc import Iterator

import pytest

from tests.unit.test_layout import PACKAGES, ROOT

_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def imported(tree: ast.Module) -> dict[str, str]:
    """Return the names that imports bind anywhere in a module, each with the path of its object."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for each in names:
                    top = each.name.partition(".")[0]
                    found[each.asname or top] = each.name if each.asname else top
            case ast.ImportFrom(module=str(module), level=0, names=names):
                found |= {each.asname or each.name: f"{module}.{each.name}" for each in names}
    return found


def path_of(expression: ast.expr, names: dict[str, str]) -> str | None:
    """Return the path of the object that an expression names by an import; `None` if it doesn't."""
    match expression:
        case ast.Constant(value=str(path)):
            return path
        case ast.Name(id=name):
            return names.get(name)
        case ast.Attribute(value=value, attr=name):
            within = path_of(value, names)
            return within and f"{within}.{name}"
    return None


def is_ours(path: str | None) -> bool:
    return path is not None and path.partition(".")[0] in PACKAGES


def may_be_set(path: str) -> bool:
    """Say whether the object is something that isn't called, or that others made."""
    found = pkgutil.resolve_name(path)
    return not callable(found) or not is_ours(getattr(found, "__module__", None) or type(found).__module__)


def replaced(source: str) -> Iterator[str]:
    """Yield each call of a `setattr` method that may replace something of ours that isn't a constant."""
    tree = ast.parse(source)
    names = imported(tree)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str(whole)), _]):
                allowed = not is_ours(whole) or may_be_set(whole)
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Name(id=name), _, _]) if name in own:
                allowed = True
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[target, ast.Constant(value=str(name)), _]):
                path = path_of(target, names)
                if path is None:  # a variable, such as one that goes through modules
                    allowed = _CONSTANT.fullmatch(name) is not None
                else:
                    allowed = not is_ours(path) or may_be_set(f"{path}.{name}")
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[target, *_]):
                path = path_of(target, names)
                allowed = path is not None and not is_ours(path)
            case _:
                continue
        if not allowed:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_test_replaces_a_function_of_ours() -> None:
    found = {
        str(path.relative_to(ROOT)): [*replaced(path.read_text())] for path in sorted((ROOT / "tests").rglob("*.py"))
    }
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("from events.store import log\npatch.setattr(log, 'history', x)", False),
        ("from events.store.event_store import LockedStream\npatch.setattr(LockedStream, 'append_all', x)", False),
        ("from db import embedded\npatch.setattr(embedded._Server, 'under', x)", False),
        ("from db import embedded\npatch.setattr(embedded, '_Server', x)", False),
        ("from db import migrate as migrating\npatch.setattr(migrating, 'build_indexes', x)", False),
        ("def test():\n    import cli.__main__\n    patch.setattr(cli.__main__, 'status', x)", False),
        ("import cli.__main__\nfor each in y: patch.setattr(cli.__main__, each, x)", False),
        ("patch.setattr('events.store.log.history', x)", False),
        ("from db import turns\nfor each in turns.Turns, turns.FairQueue: patch.setattr(each, 'put', x)", False),
        ("patch.setattr(service.pool, 'fetch', x)", False),
        ("from events.store import log\npatch.setattr(log, 'READ_BATCH', 2)", True),
        ("for each in modules: patch.setattr(each, 'BATCH', 2)", True),
        ("from db import time_slices\npatch.setattr(time_slices, 'time', x)", True),
        ("patch.setattr('api.server.connections.time.monotonic', x)", True),
        ("import asyncpg\nfor each in y: patch.setattr(asyncpg.Connection, each, x)", True),
        ("import socket\npatch.setattr(socket, 'getaddrinfo', x)", True),
        ("class Own: ...\npatch.setattr(Own, '_commit', x)", True),
    ],
)
def test_what_is_found_to_replace_one(source: str, allowed: bool) -> None:
    assert (not [*replaced(source)]) is allowed
