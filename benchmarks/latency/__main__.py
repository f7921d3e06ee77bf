"""`python -m benchmarks.latency`: starts a platform, triggers many short runs, and measures the way of their events."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from websockets.sync.client import ClientConnection

from benchmarks.latency import MARKS_VARIABLE, hops
from runner.demo import LAST, Api
from runner.errors import StartError
from runner.home import Home
from runner.platform import Platform

SVOPS_PORT, AIRFLOW_PORT = 18650, 18651
DAG_ID = "simple_workflow_example"
RUN_TIMEOUT = 120
POLL = 0.2


class Client:
    """Collects each event and the time at which its frame arrived."""

    def __init__(self, stream: ClientConnection) -> None:
        self.frames: list[tuple[float, dict[str, Any]]] = []
        self.ended: set[str] = set()
        self._stream = stream

    def listen(self, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                text = self._stream.recv(timeout=left)
            except TimeoutError:
                return
            now = time.time()
            frame = json.loads(text)
            for event in frame["events"] if frame["type"] == "events" else [frame]:
                if "id" in event:
                    self._collect(now, event)

    def _collect(self, now: float, event: dict[str, Any]) -> None:
        self.frames.append((now, event))
        if event["type"] in LAST:
            self.ended.add(event["run_id"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-latency", description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svops-bench-") as directory:
        marks_file = Path(directory) / "marks"
        os.environ |= {
            "SVOPS_HOME": directory,
            "SVOPS_PORT": str(SVOPS_PORT),
            "AIRFLOW_PORT": str(AIRFLOW_PORT),
            "DJANGO_SETTINGS_MODULE": "benchmarks.latency.settings",
            MARKS_VARIABLE: str(marks_file),
        }
        home = Home(Path(directory))
        try:
            with home.locked():
                platform = Platform(home, console=Console(stderr=True), verbose=False)
                return platform.run(
                    lambda stop: _measure(platform.application.url, marks_file, options.runs, options.at_once, stop)
                )
        except StartError as exc:
            print(f"bench-latency: {exc}", file=sys.stderr)
            return 1


def _measure(url: str, marks_file: Path, count: int, at_once: int, stop: threading.Event) -> int:
    api = Api(f"{url}/api/v1")
    workflow = api.workflow_of(DAG_ID)
    runs: dict[str, str] = {}
    with api.stream() as stream:
        client = Client(stream)
        deadline = time.monotonic() + RUN_TIMEOUT
        while len(client.ended) < count and not stop.is_set():
            if len(runs) < count and len(runs) - len(client.ended) < at_once:
                run = api.post(f"/workflows/{workflow['id']}/runs", {"parameters": {"processing_time": 1}})
                runs[run["id"]] = run["dag_run_id"]
                deadline = time.monotonic() + RUN_TIMEOUT
            client.listen(seconds=POLL)
            if time.monotonic() > deadline:
                raise StartError(f"{len(runs) - len(client.ended)} runs did not end within {RUN_TIMEOUT} s.")
    found, otherwise = hops.traces(marks_file, client.frames, runs)
    print(f"{count} runs, {at_once} at a time.\n\n{hops.markdown(found, otherwise=otherwise)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
