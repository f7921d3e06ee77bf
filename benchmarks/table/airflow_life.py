"""The life of triggered runs in the scripted Airflow: they start, work, end, and each change is pushed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

BATCH = 100  # as the listener plugin


class Life:
    """One task per run. `seconds` is how long it works; without a `url` nothing is pushed."""

    def __init__(
        self,
        put_runs: Callable[..., None],
        put_tasks: Callable[..., None],
        *,
        seconds: float,
        url: str = "",
        secret: str = "",
    ) -> None:
        self._put_runs, self._put_tasks = put_runs, put_tasks
        self._seconds = seconds
        self._url, self._secret = urlsplit(url), secret.encode()
        self._ends: list[tuple[float, str]] = []
        self._pushes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks = {asyncio.ensure_future(self._push_for_ever())} if url else set()

    def begin(self, dag_id: str, run_id: str) -> None:
        live = asyncio.ensure_future(self._live(dag_id, run_id))
        self._tasks.add(live)
        live.add_done_callback(self._tasks.discard)

    def ends_since(self, moment: float) -> list[tuple[float, str]]:
        """Return (time, run id) of the runs that ended after this moment of the clock."""
        return [end for end in self._ends if end[0] > moment]

    async def _live(self, dag_id: str, run_id: str) -> None:
        started = _now()
        self._show(dag_id, run_id, "running", start=started)
        await asyncio.sleep(self._seconds)
        self._ends.append((time.time(), run_id))
        self._show(dag_id, run_id, "success", start=started, end=_now())

    def _show(self, dag_id: str, run_id: str, state: str, *, start: str, end: str | None = None) -> None:
        names = {"dag_id": dag_id, "dag_run_id": run_id}
        times = {"start_date": start, "end_date": end}
        run = {**names, **times, "state": state}
        task = {
            **task_json(dag_id, run_id, "work", state, start=start, end=end),
            "id": hashlib.sha256(run_id.encode()).hexdigest()[:32],
        }
        at = _now()
        self._put_runs([run], at=at)
        self._put_tasks([task], at=at)
        pushed_run = {"kind": "run", "at": at, **run, "run_type": "manual"}
        names_of_task = ("task_id", "map_index", "try_number", "max_tries", "id")
        pushed_task = {"kind": "task", "at": at, **names, **times, "state": state}
        pushed_task |= {name: task[name] for name in names_of_task}
        # The scheduler starts the run first, and ends it last.
        for record in (pushed_run, pushed_task) if end is None else (pushed_task, pushed_run):
            self._pushes.put_nowait(record)

    async def _push_for_ever(self) -> None:
        while True:
            batch = [await self._pushes.get()]
            while len(batch) < BATCH and not self._pushes.empty():
                batch.append(self._pushes.get_nowait())
            try:
                await self._push(batch)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)

    async def _push(self, batch: list[dict[str, Any]]) -> None:
        body = json.dumps({"records": batch, "dropped": 0}).encode()
        sent_at = str(int(time.time()))
        signature = hmac.new(self._secret, sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
        head = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-SVOps-Timestamp: {sent_at}\r\nX-SVOps-Signature: {signature}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            await reader.read()
        finally:
            writer.close()


def task_json(
    dag_id: str, run_id: str, task_id: str, state: str | None, *, start: str | None = None, end: str | None = None
) -> dict[str, Any]:
    names = {"dag_id": dag_id, "dag_run_id": run_id, "task_id": task_id, "map_index": -1}
    known = {
        "try_number": 1,
        "max_tries": 0,
        "operator": "PythonOperator",
        "pool": "default_pool",
        "hostname": "worker",
    }
    return {**names, **known, "state": state, "start_date": start, "end_date": end, "duration": None, "id": None}


def _now() -> str:
    return datetime.now(UTC).isoformat()
