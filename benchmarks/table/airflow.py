"""A scripted Airflow 3, quick enough to be no part of what is measured: `python -m benchmarks.table.airflow PORT`.

It answers what SVOps asks, from memory, in a process of its own. `POST /control` tells it what to have and how slow to
be; `GET /counts` says how much it was asked. With `live`, the runs that are triggered start, work for a while and end,
and each change is pushed, as the listener plugin does.
"""

from __future__ import annotations

import asyncio
import json
import operator
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

import uvicorn

from benchmarks.table.airflow_life import Life

API = "/api/v2"
Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]
Receive = Callable[[], Awaitable[Json]]
OPERATORS: dict[str, Callable[[datetime, datetime], bool]] = {
    "gte": operator.ge,
    "gt": operator.gt,
    "lte": operator.le,
    "lt": operator.lt,
}


class Table:
    """Rows of one kind in the order of their last change, each with its JSON."""

    def __init__(self, key: tuple[str, ...], plural: str) -> None:
        self.plural = plural
        self._key = key
        self._rows: dict[tuple[Any, ...], Json] = {}
        self._encoded: dict[tuple[Any, ...], bytes] = {}
        self._by_run: dict[tuple[str, str], dict[tuple[Any, ...], None]] = {}
        self._found: dict[str, list[tuple[Any, ...]]] = {}

    def put(self, rows: Iterable[Json], *, at: str) -> None:
        """Insert or change rows. They changed at this moment, unless they say otherwise."""
        self._found.clear()
        for row in rows:
            key = tuple(row[name] for name in self._key)
            stored = self._rows.pop(key, {}) | {"updated_at": at} | row
            self._rows[key] = stored
            self._by_run.setdefault(key[:2], {})[key] = None
            self._encoded.pop(key, None)

    def touch(self, *, at: str) -> None:
        """Change only when each row that has not ended was changed, as heartbeats do."""
        self.put([{**row, "updated_at": at} for row in list(self._rows.values()) if not row["end_date"]], at=at)

    def get(self, *key: Any) -> Json | None:
        return self._rows.get(key)

    def of_run(self, run: tuple[str, str]) -> list[Json]:
        return [self._rows[key] for key in self._by_run.get(run, ())]

    def encoded(self, key: tuple[Any, ...]) -> bytes:
        if key not in self._encoded:
            self._encoded[key] = json.dumps(self._rows[key], separators=(",", ":")).encode()
        return self._encoded[key]

    def page(self, asked: Mapping[str, list[str]], *, run: tuple[str, str] | None = None) -> bytes:
        """Return the answer to a list: filtered and ordered as Airflow does, in pages."""
        limit, offset = _whole(asked, "limit", 50), _whole(asked, "offset", 0)
        filters = {name: values for name, values in asked.items() if name not in {"limit", "offset"}}
        found = self._find(filters, run)
        rows = b",".join(self.encoded(key) for key in found[offset : offset + limit])
        return b'{"%s":[%s],"total_entries":%d}' % (self.plural.encode(), rows, len(found))

    def _find(self, filters: Mapping[str, list[str]], run: tuple[str, str] | None) -> list[tuple[Any, ...]]:
        name = json.dumps([filters, run], sort_keys=True)
        if name not in self._found:
            tests = [test for name, values in filters.items() if (test := _test(name, values))]
            keys = self._by_run.get(run, ()) if run else self._narrowed(filters)
            found = [key for key in keys if all(test(self._rows[key]) for test in tests)]
            order = (filters.get("order_by") or ["id"])[0]
            column = order.removeprefix("-")
            if column.endswith(("_at", "_date")):
                found.sort(key=lambda key: str(self._rows[key][column]), reverse=order.startswith("-"))
            elif order.startswith("-"):
                found.reverse()
            self._found = dict(list(self._found.items())[-50:]) | {name: found}
        return self._found[name]

    def _narrowed(self, filters: Mapping[str, list[str]]) -> Iterable[tuple[Any, ...]]:
        """Return the keys of the named runs, if some are named, else all."""
        if "dag_ids" not in filters or "dag_run_ids" not in filters:
            return list(self._rows)
        runs = ((dag_id, run_id) for run_id in filters["dag_run_ids"] for dag_id in filters["dag_ids"])
        return [key for run in runs for key in self._by_run.get(run, ())]


def _whole(asked: Mapping[str, list[str]], name: str, default: int) -> int:
    return int(asked[name][0]) if name in asked else default


def _test(name: str, values: list[str]) -> Callable[[Json], bool] | None:
    """Return the test of one filter; None for a parameter that filters nothing."""
    column, _, relation = name.rpartition("_")
    if relation in OPERATORS and column.endswith(("_date", "_at", "_after")):
        moment, compare = datetime.fromisoformat(values[0]), OPERATORS[relation]
        return lambda row: bool(row.get(column)) and compare(datetime.fromisoformat(row[column]), moment)
    if name == "dag_id_prefix_pattern":
        prefixes = tuple(values[0].split("|"))
        return lambda row: str(row["dag_id"]).startswith(prefixes)
    wanted = set(values)
    column = {"states": "state", "dag_ids": "dag_id", "dag_run_ids": "dag_run_id", "task_ids": "task_id"}.get(
        name, name
    )
    if column in {"state", "dag_id", "dag_run_id", "task_id", "run_type"}:
        return lambda row: str(row[column] or "none") in wanted
    return None


class Airflow:
    def __init__(self) -> None:
        self.reset()
        self.life: Life | None = None

    def reset(self) -> None:
        self._forget()
        self.dags: dict[str, Json] = {}
        self.delay, self.is_down = 0.0, False
        self.arrived: dict[str, float] = {}
        self.requests = self.bytes = 0

    def _forget(self) -> None:
        self.runs = Table(("dag_id", "dag_run_id"), "dag_runs")
        self.tasks = Table(("dag_id", "dag_run_id", "task_id", "map_index"), "task_instances")

    async def __call__(self, scope: Json, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, path = scope["method"], unquote(scope["path"])
        body = await _body(receive)
        if path == "/control":
            status, answer = 200, self._control(json.loads(body))
        else:
            if self.delay:
                await asyncio.sleep(self.delay)
            status, answer = self._answer(method, path, scope["query_string"], body)
            self.requests += 1
            self.bytes += len(answer) + len(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _control(self, order: Json) -> bytes:
        if order.get("reset"):
            self.reset()
        self.delay, self.is_down = order.get("delay", self.delay), order.get("down", self.is_down)
        at = _now()
        if order.get("forget"):
            self._forget()
        self.dags |= order.get("dags", {})
        self.runs.put(order.get("runs", ()), at=at)
        self.tasks.put(order.get("tasks", ()), at=at)
        if order.get("touch"):
            self.runs.touch(at=at)
            self.tasks.touch(at=at)
        if "live" in order:
            self.life = Life(self.runs.put, self.tasks.put, **order["live"])
        counts: Json = {"requests": self.requests, "bytes": self.bytes}
        if order.get("arrived"):
            counts["arrived"] = self.arrived
        if order.get("restart"):
            self.requests = self.bytes = 0
        if self.life:
            counts["ends"] = self.life.ends_since(order.get("ends_after", 0.0))
        return json.dumps(counts).encode()

    def _answer(self, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
        if self.is_down:
            return 503, b'{"detail":"scripted outage"}'
        if path == "/auth/token":
            return 201, b'{"access_token":"scripted"}'
        if not path.startswith(f"{API}/"):
            return 404, b'{"error":"API route not found"}'
        with suppress(KeyError):
            return self._do(method, path.removeprefix(f"{API}/").split("/"), parse_qs(query.decode()), body)
        return 404, b'{"detail":"not found"}'

    def _do(self, method: str, path: list[str], query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:  # noqa: C901 - a table of endpoints
        match method, path:
            case "GET", ["version"]:
                return 200, b'{"version":"3.3.2","git_version":null}'
            case "GET", ["monitor", "health"]:
                part = {"status": "healthy", "latest_heartbeat": None}
                names = ("metadatabase", "scheduler", "dag_processor", "triggerer")
                return _json({name: {**part, f"latest_{name}_heartbeat": None} for name in names})
            case "GET", ["dags"]:
                return self._listed_dags(query)
            case "GET", ["importErrors"]:
                return _json({"import_errors": [], "total_entries": 0})
            case "GET", ["dags", dag_id, "details"]:
                return _json({**self.dags[dag_id]["listed"], **self.dags[dag_id]["details"]})
            case "GET", ["dags", dag_id, "tasks"]:
                return _json({"tasks": self.dags[dag_id]["tasks"], "total_entries": len(self.dags[dag_id]["tasks"])})
            case "GET", ["dags", "~", "dagVersions"]:
                rows = [{"dag_id": dag_id, "version_number": 1} for dag_id in self.dags]
                return _json(_page("dag_versions", rows, query))
            case "GET", ["eventLogs"]:
                return _json(_page("event_logs", [], query))
            case "GET", ["dags", "~", "dagRuns", "~", "hitlDetails"]:
                return _json({"hitl_details": [], "total_entries": 0})
            case "GET", ["dags", "~", "dagRuns"]:
                return 200, self.runs.page(query)
            case "GET", ["dags", "~", "dagRuns", "~", "taskInstances"]:
                return 200, self.tasks.page(query)
            case "POST", ["dags", "~", "dagRuns", "list"]:
                return 200, self.runs.page(_as_query(body))
            case "POST", ["dags", "~", "dagRuns", "~", "taskInstances", "list"]:
                return 200, self.tasks.page(_as_query(body))
            case "GET", ["dags", dag_id, "dagRuns", run_id, "taskInstances"]:
                return 200, self.tasks.page(query, run=(dag_id, run_id))
            case "GET", ["dags", dag_id, "dagRuns", run_id]:
                return _json(self.runs.get(dag_id, run_id) or _missing())
            case "POST", ["dags", dag_id, "dagRuns"]:
                return self._trigger(dag_id, json.loads(body))
        raise KeyError

    def _listed_dags(self, query: dict[str, list[str]]) -> tuple[int, bytes]:
        rows = [dag["listed"] for _, dag in sorted(self.dags.items())]
        if "paused" in query:
            rows = [row for row in rows if str(row["is_paused"]).lower() in query["paused"]]
        if "dag_id_pattern" in query:
            wanted = re.compile(query["dag_id_pattern"][0].replace("%", ".*"))
            rows = [row for row in rows if wanted.search(row["dag_id"])]
        return _json(_page("dags", rows, query))

    def _trigger(self, dag_id: str, asked: Json) -> tuple[int, bytes]:
        run_id = asked["dag_run_id"]
        if self.runs.get(dag_id, run_id):
            return 409, b'{"detail":{"reason":"Unique constraint violation"}}'
        row = run_json(dag_id, run_id, "queued") | {"conf": asked["conf"], "note": asked.get("note")}
        self.runs.put([row], at=_now())
        self.arrived[run_id] = time.time()
        if self.life:
            self.life.begin(dag_id, run_id)
        return _json(row)


def run_json(dag_id: str, run_id: str, state: str, *, start: str | None = None, end: str | None = None) -> Json:
    dates = {"logical_date": None, "start_date": start, "end_date": end, "queued_at": _now(), "run_after": _now()}
    names = {"dag_id": dag_id, "dag_run_id": run_id, "run_type": "manual", "triggered_by": "rest_api"}
    return {**names, **dates, "state": state, "conf": {}, "note": None}


def dag_json(dag_id: str, tasks: Sequence[str]) -> Json:
    """Return a DAG as the scripted Airflow has it."""
    listed = {
        "dag_id": dag_id,
        "dag_display_name": dag_id,
        "description": "",
        "is_paused": False,
        "is_stale": False,
        "tags": [],
        "owners": ["airflow"],
        "timetable_summary": None,
        "max_active_runs": 16,
        "fileloc": f"/opt/dags/{dag_id}.py",
        "bundle_name": "dags-folder",
        "relative_fileloc": f"{dag_id}.py",
        "last_parsed_time": "2026-01-01T00:00:00Z",
    }
    details = {
        "doc_md": None,
        "params": {},
        "latest_dag_version": {"version_number": 1, "created_at": "2026-01-01T00:00:00Z"},
    }
    return {"listed": listed, "details": details, "tasks": [_dag_task(name) for name in tasks]}


def _dag_task(task_id: str) -> Json:
    return {
        "task_id": task_id,
        "downstream_task_ids": [],
        "operator_name": "PythonOperator",
        "trigger_rule": "all_success",
        "retries": 0,
        "is_mapped": False,
        "pool": "default_pool",
    }


def _page(key: str, rows: list[Json], query: Mapping[str, list[str]]) -> Json:
    limit, offset = _whole(query, "limit", 50), _whole(query, "offset", 0)
    return {key: rows[offset : offset + limit], "total_entries": len(rows)}


def _missing() -> Json:
    raise KeyError


def _json(body: Any) -> tuple[int, bytes]:
    return 200, json.dumps(body, separators=(",", ":")).encode()


def _as_query(body: bytes) -> dict[str, list[str]]:
    """Return the filters of a POST …/list as those of a GET."""
    renamed = {"page_limit": "limit", "page_offset": "offset"}
    asked = {renamed.get(name, name): value for name, value in json.loads(body).items() if value is not None}
    return {name: [str(v) for v in (value if isinstance(value, list) else [value])] for name, value in asked.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def main() -> None:
    config = uvicorn.Config(
        Airflow(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off"
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
