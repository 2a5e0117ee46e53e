"""Every statement on a user's rows names the user, by Postgres's own parser."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pglast
import pytest
from pglast.ast import (
    A_Expr,
    BoolExpr,
    ColumnRef,
    JoinExpr,
    ParamRef,
    RangeFunction,
    RangeVar,
    String,
    TypeCast,
)
from pglast.enums import A_Expr_Kind, BoolExprType
from pglast.visitors import Visitor

PACKAGES = ["api", "cli", "commands", "config", "db", "events", "queries", "telemetry"]
TABLES = {"tasks", "events", "streams", "accesses"}
SQL = re.compile(rf"\b(SELECT|INSERT|UPDATE|DELETE|TRUNCATE|MERGE|COPY)\b.*\b({'|'.join(TABLES)})\b", re.DOTALL)

EXCEPTIONS = {
    "events.integrity.work_units.PAGE": "an operator's: goes over all users",
    "events.integrity.work_units.ORPHANED": "an operator's: goes over all users",
    "events.integrity.work_units.ORPHANED_AT_THE_END": "an operator's: goes over all users",
    "events.integrity.work_units.SAMPLE": "an operator's: draws users by lot",
    "events.integrity.work_units.TOTAL": "an operator's: counts all users' events",
    "events.integrity.spot_check.FEW": "an operator's: looks at users by lot",
    "events.integrity.spot_check.NEXT": "an operator's: looks at a user by lot",
    "events.integrity.spot_check.SPOT_CHECK": "an operator's: looks at users by lot; its joins are on user_id",
    "daybook_append_many.sql[14]": "many users' events: each row is its own command's",
    "daybook_append_many.sql[15]": "many users' tasks: as above",
    "daybook_append_many.sql[22]": "many users' streams: only those that are locked",
}
"""Statements that don't name the user, and why they needn't."""


def modules() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        for each in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not each.name.startswith("db.migrations"):  # the schema, which belongs to nobody
                yield each.name


def constants() -> Iterator[tuple[str, str]]:
    """Yield every SQL statement on the tables, by the name of its constant."""
    for module in modules():
        for name, value in vars(importlib.import_module(module)).items():
            if name.lstrip("_").isupper():
                for named, text in texts(f"{module}.{name}", value):
                    if SQL.search(text) and "{" not in text:
                        yield named, text


def texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a text, each text of a dictionary, or each form of a statement that has several, with its name."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts(f"{name}[{key}]", each)
    elif hasattr(value, "_fields"):
        for form, each in zip(value._fields, value, strict=True):
            yield from texts(f"{name}.{form}", each)


def queries(parsed: Any) -> Iterator[str]:
    """Yield every expression and statement in a parsed function, in its order."""
    for key, value in parsed.items() if isinstance(parsed, dict) else enumerate(parsed):
        if key == "query" and isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            yield from queries(value)


def in_functions() -> Iterator[tuple[str, str]]:
    """Yield every statement on the tables in a database function, with the function's parameters as the statement's."""
    for path in (Path(__file__).parents[2] / "db" / "functions").glob("*.sql"):
        for number, text in enumerate(queries(pglast.parse_plpgsql(path.read_text()))):
            if SQL.search(text):
                yield f"{path.name}[{number}]", re.sub(r"\bp_user_id\b", "$1", text)


STATEMENTS = dict([*constants(), *in_functions()])


def unnested(table: Any) -> bool:
    """Say if a table is `unnest` of nothing but parameters, which reads no other table."""
    [(call, _)] = table.functions
    arguments = [each.arg if isinstance(each, TypeCast) else each for each in call.args]
    return call.funcname[-1].sval == "unnest" and all(isinstance(each, ParamRef) for each in arguments)


class Brings(Visitor):
    """Collects the functions that make rows of nothing but parameters, such as `unnest($1::text[]) AS t (user_id)`."""

    def __init__(self) -> None:
        self.brought: set[str] = set()

    def visit_RangeFunction(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        [(call, _)] = node.functions
        arguments = [each.arg if isinstance(each, TypeCast) else each for each in call.args]
        names = [each.sval for each in node.alias.colnames or ()]
        if all(isinstance(each, ParamRef) for each in arguments) and "user_id" in names:
            self.brought.add(node.alias.aliasname)


class Binds(Visitor):
    """Collects the table references that aren't bound to a user by a parameter."""

    def __init__(self, brought: set[str]) -> None:
        self.brought = brought
        self.unbound: list[str] = []
        self.bound: list[str] = []
        self.named: set[str] = set()

    def _note(self, table: Any, *, is_bound: bool) -> None:
        if table.relname in TABLES - self.named:
            (self.bound if is_bound else self.unbound).append(table.relname)

    def visit_CommonTableExpr(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        self.named.add(node.ctename)

    def visit_SelectStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        for table in node.fromClause or ():
            if isinstance(table, RangeVar):
                self._note(table, is_bound=self._names_the_user(node.whereClause, table))
            elif isinstance(table, RangeFunction) and (
                unnested(table) or (table.alias and table.alias.aliasname in self.brought)
            ):
                self.bound.append("parameters")  # what such a row brings is looked at where it is compared
            elif isinstance(table, RangeFunction):  # brings its own rows, which are held to the same
                (self.bound if self._names_the_user(node.whereClause, table) else self.unbound).append("a function")
            elif isinstance(table, JoinExpr):
                self.unbound.append("a join")  # none is read yet: where a user's request needs one, teach this test
            else:
                assert type(table).__name__ == "RangeSubselect"

    def visit_InsertStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        place = [column.name for column in node.cols].index("user_id")
        several = isinstance((node.selectStmt.fromClause or [None])[0], RangeFunction)  # rows of several users
        values = node.selectStmt.valuesLists
        value = values[0][place] if values else node.selectStmt.targetList[place].val
        conflict = node.onConflictClause
        key = [each.name for each in conflict.infer.indexElems] if conflict else ["user_id"]
        only_one = values is None or len(values) == 1
        self._note(
            node.relation, is_bound=only_one and not several and isinstance(value, ParamRef) and "user_id" in key
        )

    def visit_UpdateStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        assert "user_id" not in [each.name for each in node.targetList], "a row never changes hands"
        self._sources(node.fromClause, node.whereClause)
        self._note(node.relation, is_bound=self._names_the_user(node.whereClause, node.relation))

    def visit_DeleteStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        self._sources(node.usingClause, node.whereClause)
        self._note(node.relation, is_bound=self._names_the_user(node.whereClause, node.relation))

    def _sources(self, tables: Any, where: Any) -> None:
        for table in tables or ():
            if not isinstance(table, RangeFunction):  # what such a row brings is looked at where it is compared
                self._note(table, is_bound=self._names_the_user(where, table))

    def _names_the_user(self, where: Any, table: Any) -> bool:
        """Say if a condition that must hold is `user_id = $n` or `= ANY($n)`, or equates it with rows of parameters."""
        match where:
            case BoolExpr(boolop=BoolExprType.AND_EXPR):
                return any(self._names_the_user(each, table) for each in where.args or ())
            case A_Expr(
                kind=A_Expr_Kind.AEXPR_OP | A_Expr_Kind.AEXPR_OP_ANY,
                name=(String(sval="="),),
                lexpr=ColumnRef(fields=fields),
                rexpr=value,
            ):
                names = [field.sval for field in fields or ()]
                alias = table.alias.aliasname if table.alias else table.relname
                return names in (["user_id"], [alias, "user_id"]) and self._is_given(value)
            case _:
                return False

    def _is_given(self, value: Any) -> bool:
        match value:
            case ParamRef():
                return True
            case ColumnRef(fields=(String(sval=table), String(sval="user_id"))):
                return table in self.brought
            case _:
                return False


def unbound(statement: str) -> list[str]:
    tree = pglast.parse_sql(statement)
    brings = Brings()
    brings(tree)
    found = Binds(brings.brought)
    found(tree)
    assert found.bound or found.unbound, "it touches none of the tables"
    return found.unbound


def test_the_statements_are_found() -> None:
    assert {
        "events.store.log.READ.short",
        "events.store.log.READ.bounded",
        "events.store.stored_tasks.STORED",
    } <= STATEMENTS.keys()
    assert sum(name.startswith("queries.tasks.LIST[") for name in STATEMENTS) == 36
    assert sum(name.startswith("queries.tasks.LIST_AS_ARRAY[") for name in STATEMENTS) == 2
    assert sum(name.startswith("queries.audit.AUDIT") for name in STATEMENTS) == 4 * 2


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name != "db.servers.SERVER_OF"])  # of no rows
def test_each_statement_names_the_user(name: str) -> None:
    assert bool(unbound(STATEMENTS[name])) == (name in EXCEPTIONS)


def test_each_exception_is_still_there() -> None:
    assert EXCEPTIONS.keys() <= STATEMENTS.keys()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM tasks",
        "SELECT * FROM tasks WHERE id = $1",
        "SELECT * FROM tasks WHERE user_id = $1 OR id = $2",
        "SELECT * FROM tasks WHERE NOT user_id = $1",
        "SELECT * FROM tasks WHERE user_id <> $1",
        "SELECT * FROM tasks AS t WHERE other.user_id = $1",
        "SELECT * FROM tasks WHERE user_id = 'ann'",
        "SELECT * FROM (SELECT * FROM events) AS e WHERE user_id = $1",
        "WITH mine AS (SELECT * FROM tasks WHERE user_id = $1) SELECT * FROM mine, events",
        "SELECT * FROM json_to_recordset($1) AS tasks (user_id text)",
        "SELECT (SELECT seq FROM streams) FROM tasks WHERE user_id = $1",
        "INSERT INTO tasks (id, user_id) VALUES ($1, 'ann')",
        "INSERT INTO tasks (user_id, id) SELECT id, user_id FROM tasks WHERE user_id = $1",
        "INSERT INTO tasks (user_id, id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET title = 'x'",
        "INSERT INTO tasks (user_id, id) VALUES ($1, $2), ('bob', $3)",
        "UPDATE tasks SET title = $1",
        "UPDATE tasks SET title = 'x' FROM events WHERE tasks.user_id = $1",
        "DELETE FROM tasks USING events WHERE tasks.user_id = $1",
        "DELETE FROM tasks WHERE id = $1",
        "SELECT * FROM tasks WHERE user_id <> ALL($1)",
        "SELECT * FROM tasks WHERE user_id = ANY(ARRAY['ann'])",
        "SELECT * FROM tasks JOIN events USING (user_id) WHERE tasks.user_id = $1",
        "DELETE FROM tasks USING unnest($1::text[]) AS t (id) WHERE tasks.user_id = t.user_id",
        "DELETE FROM tasks USING unnest($1::text[], ARRAY['ann']) AS t (id, user_id) WHERE tasks.user_id = t.user_id",
        "DELETE FROM tasks USING unnest($1::text[]) AS t (user_id) WHERE tasks.user_id = other.user_id",
        "UPDATE tasks SET title = 'x' FROM unnest($1::uuid[]) AS t (id) WHERE tasks.id = t.id",
        "SELECT * FROM unnest($1::uuid[]) AS t (id), LATERAL (SELECT * FROM events WHERE task_id = t.id) AS e",
        "SELECT * FROM unnest($1::text[]) AS t (id), LATERAL (SELECT * FROM events WHERE user_id = t.id) AS e",
        "SELECT * FROM events_of($1::text) AS t (id)",
    ],
)
def test_a_statement_without_the_user_is_noticed(statement: str) -> None:
    assert unbound(statement)


def test_no_statement_hides_outside_such_a_constant() -> None:
    for package in PACKAGES:
        for path in Path(package).rglob("*.py"):
            if "migrations" in path.parts:
                continue
            tree = ast.parse(path.read_text())
            kept = {
                inner
                for node in tree.body
                if isinstance(node, ast.Assign | ast.AnnAssign)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name) and target.id.lstrip("_").isupper()
                for inner in ast.walk(node)
            }
            for node in ast.walk(tree):
                if node not in kept and SQL.search(_text(node)):
                    raise AssertionError(f"{path}:{node.lineno}")  # type: ignore[attr-defined] # expressions have one


def _text(node: ast.AST) -> str:
    """Return the text of a string, an f-string or a sum of them, as far as it is constant."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text, parts))
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case _:
            return ""
