"""Every statement that a sharded database is sent is one that Citus carries out, on one server if it is of one user."""

from collections.abc import Iterator
from typing import Any

import pglast
import pytest
from pglast.ast import (
    A_Expr,
    BoolExpr,
    ColumnRef,
    DeleteStmt,
    InsertStmt,
    JoinExpr,
    MergeStmt,
    ParamRef,
    RangeSubselect,
    RangeVar,
    String,
    SubLink,
    UpdateStmt,
)
from pglast.enums import A_Expr_Kind, BoolExprType
from pglast.visitors import Visitor

from tests.unit.test_statements import STATEMENTS, TABLES

NOT_SHARDED = {
    "daybook_append_many.sql": "each user's events are appended by themselves (GroupCommit)",
    "events.store.log.HEADS": "each user's head is read by itself (EventStore.head)",
    "events.store.stored_tasks.STORED_MANY": "each user's task is read by itself (EventStore.load)",
}
"""Statements that are never sent to a database that is distributed by user, and what is done instead."""

OF_ONE_SHARD = {
    "events.integrity.rebuild.LOCK": "a batch's users are on one shard",
    "events.integrity.rebuild.LOCK_FREE": "a batch's users are on one shard",
}
"""Statements that lock several users' rows, and why Citus carries them out."""


def conjuncts(where: Any) -> Iterator[Any]:
    """Iterate over the conditions that must all hold."""
    if isinstance(where, BoolExpr) and where.boolop == BoolExprType.AND_EXPR:
        for each in where.args or ():
            yield from conjuncts(each)
    elif where is not None:
        yield where


def of_user(side: Any) -> tuple[str, ...] | None:
    """Return the column `user_id` as its table and itself, or itself alone; None for anything else."""
    names = tuple(getattr(each, "sval", "*") for each in side.fields or ()) if isinstance(side, ColumnRef) else ()
    return names if names[-1:] == ("user_id",) else None


ANY = A_Expr_Kind.AEXPR_OP_ANY


class Refused(Visitor):
    """Collects what Citus refuses in a statement, or carries out on more servers than one user's."""

    def __init__(self) -> None:
        self.why: list[str] = []

    def visit_WithClause(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        if node.recursive:
            self.why.append("RECURSIVE")
        if any(isinstance(each.ctequery, InsertStmt | UpdateStmt | DeleteStmt | MergeStmt) for each in node.ctes):
            self.why.append("a write in a CTE")

    def visit_SelectStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        sources, conditions = self._joined(node.fromClause, node.whereClause)
        if node.lockingClause and not self._is_of_one_user(conditions):
            self.why.append("a lock of several users' rows")
        if any(isinstance(each, RangeSubselect) or each.relname not in TABLES for each in sources) and any(
            isinstance(target.val, SubLink) for target in node.targetList or ()
        ):
            self.why.append("a subquery beside a CTE or another subquery")

    def visit_UpdateStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        self._writes(node, node.fromClause)

    def visit_DeleteStmt(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        self._writes(node, node.usingClause)

    def visit_SubLink(self, _path: Any, node: Any) -> None:  # noqa: N802 - pglast's name
        inner = node.subselect
        tables = [each for each in inner.fromClause or () if isinstance(each, RangeVar) and each.relname in TABLES]
        if tables and not any(
            of_user(left) and (of_user(right) or isinstance(right, ParamRef))
            for left, right in self._equal(conjuncts(inner.whereClause))
        ):
            self.why.append("a subquery without user_id")

    def _writes(self, node: Any, others: Any) -> None:
        _, conditions = self._joined([node.relation, *(others or ())], node.whereClause)
        name = node.relation.alias.aliasname if node.relation.alias else node.relation.relname
        given = [of_user(left) for left, right in self._equal(conditions, ANY) if isinstance(right, ParamRef)]
        if ("user_id",) not in given and (name, "user_id") not in given:
            self.why.append("a write that isn't limited to given users")

    def _joined(self, clause: Any, where: Any) -> tuple[list[Any], list[Any]]:
        """Return a FROM's tables and subqueries and all conditions on them; note if these don't join by user_id."""
        sources, conditions, linked = list[Any](), list(conjuncts(where)), list[set[str]]()

        def go_through(each: Any) -> set[str]:
            """Return the names of its tables, and add what there is of it."""
            if isinstance(each, JoinExpr):
                names = go_through(each.larg) | go_through(each.rarg)
                conditions.extend(conjuncts(each.quals))
                if "user_id" in [column.sval for column in each.usingClause or ()]:
                    linked.append(names)
                return names
            if isinstance(each, RangeVar | RangeSubselect):
                sources.append(each)
            return {str(each.alias.aliasname if each.alias else each.relname)} if isinstance(each, RangeVar) else set()

        tables = set[str]().union(*(go_through(each) for each in clause or ()))
        for left, right in self._equal(conditions):
            linked.append({name for side in (left, right) if (name := self._whose(side)) is not None})
        groups = [{name} for name in tables]
        for link in linked:
            touched = [group for group in groups if group & link]
            groups = [group for group in groups if not group & link] + [link.union(*touched)]
        if sum(bool(group & tables) for group in groups) > 1:
            self.why.append("a join without user_id")
        return sources, conditions

    def _whose(self, side: Any) -> str | None:
        """Return the table or the parameter that a side of an equation names; None for anything else."""
        if isinstance(side, ParamRef):
            return f"${side.number}"
        names = of_user(side)
        return names[0] if names else None

    def _is_of_one_user(self, conditions: list[Any]) -> bool:
        return any(of_user(left) and isinstance(right, ParamRef) for left, right in self._equal(conditions))

    def _equal(self, conditions: Any, *kinds: Any) -> Iterator[tuple[Any, Any]]:
        for each in conditions:
            match each:
                case A_Expr(kind=kind, name=(String(sval="="),)) if kind in (A_Expr_Kind.AEXPR_OP, *kinds):
                    yield each.lexpr, each.rexpr


def refused(statement: str) -> list[str]:
    found = Refused()
    found(pglast.parse_sql(statement))
    return found.why


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name.partition("[")[0] not in NOT_SHARDED])
def test_citus_carries_out_each_statement_that_it_is_sent(name: str) -> None:
    assert refused(STATEMENTS[name]) == ["a lock of several users' rows"] * (name in OF_ONE_SHARD)


def test_each_of_these_exceptions_is_still_there() -> None:
    assert NOT_SHARDED.keys() | OF_ONE_SHARD.keys() <= {name.partition("[")[0] for name in STATEMENTS}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            "WITH made AS (INSERT INTO events (user_id) VALUES ($1) RETURNING seq) SELECT seq FROM made",
            "a write in a CTE",
        ),
        ("WITH gone AS (DELETE FROM tasks WHERE user_id = $1) SELECT", "a write in a CTE"),
        ("WITH changed AS (UPDATE tasks SET version = 1 WHERE user_id = $1) SELECT", "a write in a CTE"),
        ("WITH RECURSIVE e AS (SELECT seq FROM events WHERE user_id = $1) SELECT seq FROM e", "RECURSIVE"),
        ("SELECT seq FROM streams WHERE user_id = ANY($1) FOR UPDATE", "a lock of several users' rows"),
        ("SELECT seq FROM streams WHERE user_id = 'ann' FOR UPDATE", "a lock of several users' rows"),
        ("SELECT FROM streams FOR SHARE SKIP LOCKED", "a lock of several users' rows"),
        ("SELECT FROM tasks, events WHERE tasks.user_id = $1", "a join without user_id"),
        ("SELECT FROM tasks, events WHERE tasks.user_id = $1 AND events.user_id = $2", "a join without user_id"),
        ("SELECT FROM tasks JOIN events USING (version) WHERE tasks.user_id = $1", "a join without user_id"),
        ("SELECT FROM tasks JOIN events ON events.task_id = tasks.id", "a join without user_id"),
        ("SELECT FROM tasks AS a LEFT JOIN tasks AS b ON a.user_id = b.title_key", "a join without user_id"),
        (
            "SELECT FROM tasks JOIN events USING (user_id) JOIN streams ON streams.seq = events.seq",
            "a join without user_id",
        ),
        ("DELETE FROM tasks USING events WHERE tasks.user_id = $1", "a join without user_id"),
        ("SELECT FROM tasks WHERE NOT EXISTS (SELECT FROM streams WHERE seq = version)", "a subquery without user_id"),
        ("SELECT (SELECT max(seq) FROM events) FROM tasks WHERE user_id = $1", "a subquery without user_id"),
        (
            "WITH few AS (SELECT user_id FROM streams) SELECT (SELECT FROM tasks WHERE user_id = few.user_id) FROM few",
            "a subquery beside a CTE or another subquery",
        ),
        (
            "DELETE FROM tasks USING unnest($1::text[]) AS t (user_id) WHERE tasks.user_id = t.user_id",
            "a write that isn't limited to given users",
        ),
        ("UPDATE tasks SET version = 1 WHERE id = $1", "a write that isn't limited to given users"),
    ],
)
def test_a_statement_that_citus_refuses_is_noticed(statement: str, why: str) -> None:
    assert refused(statement) == [why]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM tasks JOIN events USING (user_id) WHERE tasks.user_id = $1",
        "SELECT FROM tasks, events WHERE tasks.user_id = $1 AND events.user_id = $1",
        "SELECT FROM tasks AS a LEFT JOIN tasks AS b ON a.user_id = b.user_id AND a.id = b.id",
        "SELECT seq FROM streams WHERE user_id = $1 FOR UPDATE SKIP LOCKED",
        "DELETE FROM tasks WHERE user_id = ANY($1) AND NOT EXISTS (SELECT FROM streams AS s WHERE user_id = s.user_id)",
    ],
)
def test_a_statement_that_citus_carries_out_is_let_be(statement: str) -> None:
    assert refused(statement) == []
