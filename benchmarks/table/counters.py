"""Counts the queries of this process and the rows that they read."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections
from django.db.backends.signals import connection_created

from benchmarks.table.row import QUERIES, ROWS_READ

EXPLAIN = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON) "
# They end no question to the database of their own.
NOT_COUNTED = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")


class Counters:
    """What all connections of this process did since `restart`. With `explains`, each SELECT is run once more."""

    def __init__(self) -> None:
        self.explains = False
        self.statements: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._is_explaining = threading.local()
        connection_created.connect(self._install, weak=False)
        for opened in connections.all(initialized_only=True):
            self._install(connection=opened)

    def restart(self) -> None:
        self._counts.clear()
        self.statements.clear()

    def add(self, name: str, number: float) -> None:
        with self._lock:
            self._counts[name] += number  # type: ignore[assignment] # bytes and rows are whole numbers

    def read(self) -> dict[str, float]:
        return dict(self._counts)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        self.explains = True
        try:
            yield
        finally:
            self.explains = False

    def _install(self, *, connection: Any, **_: object) -> None:
        if self._count not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._count)

    def _count(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
        if getattr(self._is_explaining, "now", False):
            return execute(sql, params, many, context)
        text = str(sql)
        if not text.startswith(NOT_COUNTED):
            self.add(QUERIES, 1)
            self.statements[text] += 1
        if self.explains and not many and text.startswith("SELECT") and "FOR UPDATE" not in text:
            self.add(ROWS_READ, self._rows_read(text, params))
        return execute(sql, params, many, context)

    def _rows_read(self, sql: str, params: Any) -> float:
        self._is_explaining.now = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(EXPLAIN + sql, params)
                plan = cursor.fetchone()[0]
        finally:
            self._is_explaining.now = False
        return rows_read(plan if isinstance(plan, list) else json.loads(plan))


def rows_read(plan: list[dict[str, Any]]) -> float:
    """Return how many rows of tables a plan has read, also those that a filter then removed."""
    return sum(_rows_of(part["Plan"]) for part in plan)


def _rows_of(node: Mapping[str, Any]) -> float:
    below = sum(_rows_of(child) for child in node.get("Plans", ()))
    if "Relation Name" not in node:
        return below
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(below + (node["Actual Rows"] + removed) * node["Actual Loops"])
