"""What the tail, the first page and all pages of a large log cost, beside what Airflow itself needs for it.

    .venv/bin/python -m benchmarks.bench_logs --megabytes 10 50

Starts a platform, runs one example, replaces a log of it in Airflow's folder by one of each size, and reads that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from runner.demo import Api
from runner.errors import StartError
from runner.home import Home
from runner.platform import Platform

SVOPS_PORT, AIRFLOW_PORT = 18660, 18661
DAG_ID, TASK_ID = "simple_workflow_example", "processing"
LINE = "a line of a log as long as most of them are, with some words and a number: "
DEADLINE = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 50])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svops-bench-") as directory:
        os.environ |= {"SVOPS_HOME": directory, "SVOPS_PORT": str(SVOPS_PORT), "AIRFLOW_PORT": str(AIRFLOW_PORT)}
        home = Home(Path(directory))
        with home.locked():
            platform = Platform(home, console=Console(stderr=True), verbose=False)
            return platform.run(lambda stop: _measure(platform.application.url, home, options.megabytes, stop))


def _measure(url: str, home: Home, sizes: list[int], stop: threading.Event) -> int:
    api = Api(f"{url}/api/v1")
    workflow = api.workflow_of(DAG_ID)
    for size in sizes:
        # A run of its own, so that nothing is known of its log.
        run = _ended(api, workflow["id"], stop)
        count = _enlarge(_log_of(home, run), size)
        print(f"\n{size} MB, {count:,} lines")
        logs = f"{url}/api/v1/workflows/{workflow['id']}/runs/{run['id']}/tasks/{TASK_ID}/logs"
        headers = {"Authorization": str(api._session.headers["Authorization"])}
        _report("Airflow, whole log", partial(_from_airflow, home, run))
        _report("first page", partial(_page, logs, headers, limit="1000"))
        _report("tail of 20", partial(_page, logs, headers, tail="20"))
        _report("all pages of 10,000", partial(_all_pages, logs, headers))
    return 0


def _ended(api: Api, workflow_id: int, stop: threading.Event) -> dict[str, Any]:
    run = api.post(f"/workflows/{workflow_id}/runs", {"parameters": {"processing_time": 1}})
    while run["state"] not in {"success", "failed"} and not stop.wait(0.5):
        run = api.get(f"/workflows/{workflow_id}/runs/{run['id']}")
    return dict(run)


def _log_of(home: Home, run: dict[str, Any]) -> Path:
    (path,) = home.path.rglob(f"run_id={run['dag_run_id']}/task_id={TASK_ID}/attempt=1.log")
    return path


def _enlarge(path: Path, megabytes: int) -> int:
    """Put lines in front of the log until it has this size, and return their number."""
    end = path.with_suffix(".end")
    shutil.copy(path, end)
    count = 0
    with path.open("w") as log:
        while log.tell() < megabytes * 1_000_000:
            moment = f"2026-01-01T00:{count // 60000 % 60:02}:{count // 1000 % 60:02}.{count % 1000:03}000Z"
            entry = {"timestamp": moment, "level": "info", "event": f"{LINE}{count}", "logger": "task.stdout"}
            log.write(json.dumps(entry) + "\n")
            count += 1
        log.write(end.read_text())
    end.unlink()
    return count


def _report(what: str, read: Callable[[], str]) -> None:
    began = time.monotonic()
    answer = read()
    print(f"  {what:22} {time.monotonic() - began:7.2f} s   {answer}", flush=True)


def _from_airflow(home: Home, run: dict[str, Any]) -> str:
    base = f"http://127.0.0.1:{AIRFLOW_PORT}"
    password = home.secret("airflow_password")
    token = requests.post(f"{base}/auth/token", json={"username": "admin", "password": password}, timeout=30)
    path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run['dag_run_id']}/taskInstances/{TASK_ID}/logs/1"
    headers = {"Authorization": f"Bearer {token.json()['access_token']}", "Accept": "application/x-ndjson"}
    began = time.monotonic()
    with requests.get(f"{base}{path}", headers=headers, stream=True, timeout=DEADLINE) as answer:
        chunks = answer.iter_content(65536)
        next(chunks)
        first = time.monotonic() - began
        size = sum(map(len, chunks))
    return f"HTTP {answer.status_code}, first byte after {first:.2f} s, {size / 1e6:.1f} MB"


def _page(logs: str, headers: dict[str, str], **params: str) -> str:
    answer, waits = _prepared(logs, headers, params)
    body = answer.json()
    return f"HTTP {answer.status_code}, {len(body.get('lines', []))} lines, {waits} times 202 before"


def _all_pages(logs: str, headers: dict[str, str]) -> str:
    params, pages, lines = {"limit": "10000"}, 0, 0
    while True:
        answer, _ = _prepared(logs, headers, params)
        if answer.status_code != requests.codes.ok:
            return f"HTTP {answer.status_code} after {pages} pages"
        body = answer.json()
        pages, lines = pages + 1, lines + len(body["lines"])
        params["cursor"] = body["cursor"]
        if not body["has_more"]:
            return f"{pages} pages, {lines:,} lines"


def _prepared(logs: str, headers: dict[str, str], params: dict[str, str]) -> tuple[requests.Response, int]:
    for waits in range(int(DEADLINE)):
        answer = requests.get(logs, params=params, headers=headers, timeout=DEADLINE)
        if answer.status_code != requests.codes.accepted:
            return answer, waits
        time.sleep(float(answer.headers["Retry-After"]))
    raise StartError(f"the log was not there after {DEADLINE:g} s")


if __name__ == "__main__":
    sys.exit(main())
