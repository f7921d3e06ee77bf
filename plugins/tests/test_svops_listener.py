"""The plugin under Airflow's own interpreter: it reports what happens, and never disturbs Airflow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from runner.ports import free_port
from runner.testing import ended_by_its_input
from workflows.airflow import types
from workflows.watch import push

GUEST = Path(__file__).with_name("guest.py").resolve()
SECRET = "shared with SVOps"
INTERPRETER = GUEST.parents[2] / ".venv-airflow" / "bin" / "python"
QUICK_MS = 5.0


class Receiver(ThreadingHTTPServer):
    """Takes pushes. It does not answer the first `held` of them before it ends."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pushes: list[tuple[bytes, Mapping[str, str]]] = []
        self.status = 202
        self.refusals: list[int] = []
        self.held = 0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v1/ingest"

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for body, _ in self.pushes for record in json.loads(body)["records"]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a plugin that gave up waiting is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.held:
            self.server.held -= 1
            self.server.ended.wait(30)
            return
        self.server.pushes.append((body, self.headers))
        self.send_response(self.server.refusals.pop(0) if self.server.refusals else self.server.status)
        self.send_header("Retry-After", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


Play = Callable[..., dict[str, Any]]


def environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "SVOPS"))}
    # The plugin must not use a proxy that is meant for the tasks.
    return clean | {"AIRFLOW_HOME": str(home), "http_proxy": "http://127.0.0.1:1", "no_proxy": ""}


@pytest.fixture(scope="module")
def inside_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Return a function that plays a scenario of `guest.py`, checks that it ends well, and returns its answer."""
    home = tmp_path_factory.mktemp("airflow")
    with (home / "errors").open("w+") as errors:
        guest = subprocess.Popen(
            [str(INTERPRETER), "-W", "ignore", str(GUEST)],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert guest.stdin is not None
        assert guest.stdout is not None

        def play(scenario: str, **env: str) -> dict[str, Any]:
            print(json.dumps([scenario, env]), file=guest.stdin, flush=True)
            answer = json.loads(guest.stdout.readline() or "null")  # type: ignore[union-attr]
            assert isinstance(answer, dict), (home / "errors").read_text()
            return answer

        yield play
        ended_by_its_input(guest)


def variables(url: str) -> dict[str, str]:
    return {"SVOPS_INGEST_URL": url, "SVOPS_INGEST_SECRET": SECRET}


@contextmanager
def hanging() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@contextmanager
def refusing() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}/"


def test_each_change_of_state_is_reported_in_order(receiver: Receiver, inside_airflow: Play) -> None:
    inside_airflow("story", **variables(receiver.url))

    assert [(r["kind"], r.get("task_id"), r["state"], r.get("try_number")) for r in receiver.records] == [
        ("run", None, "running", None),
        ("task", "load", "running", 1),
        ("task", "load", "up_for_retry", 1),
        ("task", "load", "running", 2),
        ("task", "load", "failed", 2),
        ("task", "mapped", "success", 1),
        ("run", None, "failed", None),
        ("run", None, "success", None),
    ]
    assert receiver.records[5]["map_index"] == 3
    assert receiver.records[7]["dag_run_id"] == "manual__2"


def test_svops_accepts_its_signature_and_reads_its_records(
    receiver: Receiver, inside_airflow: Play, settings: Settings
) -> None:
    settings.INGEST_SECRET = SECRET
    inside_airflow("story", **variables(receiver.url))

    for body, headers in receiver.pushes:
        push.check_signature(
            body,
            secret=settings.INGEST_SECRET,
            timestamp=headers["X-SVOps-Timestamp"],
            signature=headers["X-SVOps-Signature"],
            now=datetime.now(UTC),
        )
    parsed = [push.parse(index, record) for index, record in enumerate(receiver.records)]
    assert {type(record) for record in parsed} == {types.DagRun, types.TaskInstance}
    assert parsed[0].start_date == datetime(2026, 11, 23, 7, 0, tzinfo=UTC)


def test_no_hook_raises_with_any_argument(receiver: Receiver, inside_airflow: Play) -> None:
    inside_airflow("hostile", **variables(receiver.url))


@pytest.mark.parametrize("receiving", [hanging, refusing])
def test_a_receiver_that_hangs_or_refuses_does_not_slow_a_hook_and_the_queue_stays_bounded(
    inside_airflow: Play, receiving: Any
) -> None:
    with receiving() as url:
        flooded = inside_airflow("flood", **variables(url))

    assert flooded["nearly_all_ms"] < QUICK_MS
    assert flooded["queued"] <= 1000
    if receiving is hanging:
        # A refused post fails at once: on a busy machine the queue then empties as fast as the hooks fill it.
        assert flooded["dropped"] > 0


@pytest.mark.parametrize("receiving", [hanging, refusing])
def test_a_process_waits_at_most_a_second_for_its_last_post(inside_airflow: Play, receiving: Any) -> None:
    with receiving() as url:
        flushed = inside_airflow("flush", **variables(url))

    assert flushed["flush_s"] < 1.2


def test_a_refusal_by_svops_is_swallowed(receiver: Receiver, inside_airflow: Play) -> None:
    receiver.status = 401

    inside_airflow("story", **variables(receiver.url))

    assert receiver.pushes


@pytest.mark.parametrize(("refusals", "posts"), [([429], 2), ([503, 429], 3), ([503] * 9, 3), ([500], 1), ([401], 1)])
def test_what_svops_has_no_room_for_is_sent_again(
    receiver: Receiver, inside_airflow: Play, refusals: list[int], posts: int
) -> None:
    receiver.refusals = list(refusals)

    inside_airflow("one", **variables(receiver.url))

    assert [[record["state"] for record in json.loads(body)["records"]] for body, _ in receiver.pushes] == [
        ["success"]
    ] * posts


def test_the_number_of_dropped_records_comes_with_the_next_push(receiver: Receiver, inside_airflow: Play) -> None:
    receiver.held = 1

    flooded = inside_airflow("flood_and_wait", **variables(receiver.url))

    assert flooded["dropped"] > 0
    assert json.loads(receiver.pushes[-1][0])["dropped"] == flooded["dropped"]
    # All records arrived, except for the batch whose post timed out.
    assert 0 < 5000 - flooded["dropped"] - len(receiver.records) <= 100


def test_a_fork_has_its_own_pump(receiver: Receiver, inside_airflow: Play) -> None:
    inside_airflow("fork", **variables(receiver.url))

    assert [record["dag_run_id"] for record in receiver.records] == ["parent", "child"]


def test_a_record_that_is_offered_just_before_a_process_ends_arrives(receiver: Receiver, tmp_path: Path) -> None:
    argv = [str(INTERPRETER), "-W", "ignore", str(GUEST), "at_exit"]

    subprocess.run(
        argv, env=environment(tmp_path) | variables(receiver.url), check=True, capture_output=True, timeout=200
    )

    assert [record["state"] for record in receiver.records] == ["success"]


@pytest.mark.parametrize("given", ["", "SVOPS_INGEST_URL", "SVOPS_INGEST_SECRET"])
def test_without_both_variables_nothing_happens(receiver: Receiver, inside_airflow: Play, given: str) -> None:
    both = variables(receiver.url)

    idle = inside_airflow("idle", **({given: both[given]} if given else {}))

    assert idle == {"pump": False, "threads": 1}
    assert receiver.pushes == []
