"""`make demo`: a run from trigger to end, by a new user, through the public API and a real WebSocket."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from runner.errors import StartError
from runner.home import Home, HomeInUseError
from runner.platform import Platform
from runner.ports import free_port, is_free

DAG_ID = "simple_workflow_example"
PARAMETERS = {"processing_time": 5}
RUN_TIMEOUT = 180
POLL = 0.5
LAST = {"workflow.completed", "workflow.failed", "workflow.stopped"}


def demo(home: Home, *, console: Console, verbose: bool) -> int:
    """Run the demo on `home`, or beside an SVOps that runs there. Return 0 if the run completes as expected."""
    with _home_to_use(home, console) as used:
        platform = Platform(used, console=console, verbose=verbose)

        def then(stop: threading.Event) -> int:
            console.print(f"SVOps is ready at {platform.application.url}", highlight=False)
            return show_run(platform.application.url, console=console, stop=stop)

        return platform.run(then)


def show_run(url: str, *, console: Console, stop: threading.Event) -> int:
    """Trigger a run of the example on the SVOps at `url`, print its events, and check them."""
    api = Api(f"{url}/api/v1")
    console.print(f"Registered the user {api.username}.", highlight=False)
    workflow = api.workflow_of(DAG_ID)
    tasks = [task["task_id"] for task in api.get(f"/dags/{DAG_ID}")["tasks"]]
    with api.stream() as stream:
        # Listen before the trigger, so that no event of the run is missed.
        run = api.post(f"/workflows/{workflow['id']}/runs", {"parameters": PARAMETERS})
        console.print(f"Triggered {workflow['name']!r}: run {run['id']}.", highlight=False)
        seen = Sightings(tasks)
        _show(seen, _events(stream, run["id"], stop=stop), console)
    if problem := seen.problem():
        raise StartError(f"The demo failed: {problem}.")
    console.print(f"[bold green]The run has completed[/]: {len(seen.types)} events, all in order.")
    return 0


class Api:
    """The public API, as a newly registered user."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self.username = f"demo-{secrets.token_hex(4)}"
        answer = self.post(
            "/auth/register",
            {
                "username": self.username,
                "email": f"{self.username}@example.com",
                "name": "Demo",
                "password": secrets.token_urlsafe(16),
            },
        )
        self._token = answer["access_token"]
        self._session.headers["Authorization"] = f"Bearer {self._token}"

    def get(self, path: str) -> Any:
        return self._send("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._send("POST", path, body)

    def workflow_of(self, dag_id: str) -> dict[str, Any]:
        """Return the first workflow of the DAG."""
        path: str | None = "/workflows"
        while path:
            page = self.get(path)
            for workflow in page["results"]:
                if workflow["dag_id"] == dag_id:
                    return dict(workflow)
            path = page["next"] and page["next"].removeprefix(self._url)
        raise StartError(f"The demo failed: there is no workflow for the DAG {dag_id}.")

    def stream(self) -> ClientConnection:
        """Open a WebSocket with all events that the user can see."""
        address = self._url.replace("http", "ws", 1) + "/ws"
        protocols = [Subprotocol("svops.v1"), Subprotocol(f"bearer.{self._token}")]
        stream = connect(address, subprotocols=protocols, open_timeout=10, close_timeout=2)
        first = json.loads(stream.recv(timeout=10))
        if first["type"] != "connection.ready":
            raise StartError(f"The demo failed: the stream began with {first['type']}.")
        return stream

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=15)
        if not answer.ok:
            raise StartError(f"The demo failed: {method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json()


@dataclass
class Sightings:
    """The events of one run, in the order of their arrival."""

    tasks: list[str]
    types: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    _steps: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, event: dict[str, Any]) -> None:
        self.types.append(event["type"])
        self._steps.append((event["type"], event["task_id"]))
        if event["type"] == "task.completed":
            self.completed.append(event["task_id"])

    def problem(self) -> str:
        """Return what is wrong with the events; "" if each arrived once and in its place."""
        expected: list[tuple[str, str | None]] = [("workflow.triggered", None), ("workflow.started", None)]
        expected += [(f"task.{step}", task) for task in self.tasks for step in ("started", "completed")]
        expected += [("workflow.completed", None)]
        if Counter(expected) != Counter(self._steps):
            return f"it expected {expected} and saw {self._steps}"
        at = {step: position for position, step in enumerate(self._steps)}
        late = [task for task in self.tasks if at["task.started", task] > at["task.completed", task]]
        if late or self._steps[:2] != expected[:2] or self._steps[-1] != expected[-1]:
            return f"the events came out of order: {self._steps}"
        return ""


def _events(stream: ClientConnection, run_id: str, *, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """Yield the events of the run as they arrive, up to its last."""
    deadline = time.monotonic() + RUN_TIMEOUT
    while time.monotonic() < deadline and not stop.is_set():
        try:
            frame = json.loads(stream.recv(timeout=POLL))
        except TimeoutError:
            continue
        except WebSocketException as exc:
            raise StartError(f"The demo failed: the stream broke off ({exc}).") from exc
        events = frame["events"] if frame["type"] == "events" else [frame]
        for event in (event for event in events if event.get("run_id") == run_id):
            yield event
            if event["type"] in LAST:
                return


def _show(seen: Sightings, events: Iterator[dict[str, Any]], console: Console) -> None:
    """Print each event as it arrives, above a bar that counts completed tasks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Tasks", total=len(seen.tasks))
        for event in events:
            seen.add(event)
            subject = f"  {event['task_id']}" if event["task_id"] else ""
            progress.console.print(f"  {event['timestamp']}  {event['type']:<20}{subject}", highlight=False)
            progress.update(bar, completed=len(seen.completed))


@contextmanager
def _home_to_use(home: Home, console: Console) -> Iterator[Home]:
    """Lock and return `home`; if SVOps runs there already, create another for the demo and remove it afterwards."""
    try:
        with home.locked():
            _avoid_taken_ports(console)
            yield home
            return
    except HomeInUseError as exc:
        if exc.path != home.path:
            raise
        console.print(f"SVOps already runs on {home.path}: the demo starts another beside it.", soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="svops-demo-") as directory:
        os.environ.update(SVOPS_HOME=directory, SVOPS_PORT=str(free_port()), AIRFLOW_PORT=str(free_port()))
        beside = Home(Path(directory))
        with beside.locked():
            yield beside


def _avoid_taken_ports(console: Console) -> None:
    for variable, usual in (("SVOPS_PORT", 8000), ("AIRFLOW_PORT", 8080)):
        if variable not in os.environ and not is_free("127.0.0.1", usual):
            os.environ[variable] = str(free_port())
            console.print(f"Port {usual} is taken: the demo uses {variable}={os.environ[variable]}.")
