"""A staged Airflow that can be down in three ways, stopped in the middle of an exchange, paused, and unhealthy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, Literal

from runner.ports import free_port
from workflows.airflow.tests.scripted import Reply, Request, _Handler, _Server
from workflows.tests.stage import StagedAirflow

PATIENCE = 30

Absence = Literal["refuses", "hangs", "answers 503"]


@dataclass
class Exchange:
    """A request at which the test intervenes: before Airflow has executed it, or after, but before the answer.

    One that is `lost` is never done.
    """

    method: str
    path: str
    moment: Literal["before", "after"]
    came: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    goes_on: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def is_at(self, request: Request) -> bool:
        return request.method == self.method and request.path.endswith(self.path)

    def meet(self) -> None:
        self.came.set()
        self.goes_on.wait(PATIENCE)
        if self.lost:
            raise ConnectionAbortedError("never done")

    def end(self) -> None:
        """Let Airflow go on, and wait until it has finished."""
        self.goes_on.set()
        assert self.ended.wait(PATIENCE)


class _Door(_Server):
    """A server that can be closed with all its connections, and opened again at the same address."""

    def __init__(self, airflow: StagedAirflow, *, port: int) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", port), _Handler)
        self.airflow = airflow
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def shut(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            connection.shutdown(socket.SHUT_RDWR)


class ControlledAirflow(StagedAirflow):
    """It also pauses DAGs, has pools and a health. `order` lists the runs in the order of their creation."""

    def __init__(self) -> None:
        super().__init__()
        self._server.server_close()
        # While it is away, no other server here gets its port, and with it the calls of this test.
        self._server = _Door(self, port=free_port())
        self._absence: Absence | None = None
        self._back = threading.Event()
        self.exchange: Exchange | None = None
        self._refused: dict[str, Reply] = {}
        self.switched: list[tuple[str, bool]] = []
        self.pools = [{"name": "default_pool", "slots": 128, "open_slots": 128}]
        self.health: dict[str, Any] = {
            name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
        }

    @property
    def order(self) -> list[str]:
        return [dag_run_id for _, dag_run_id in self.runs]

    @property
    def changes(self) -> list[str]:
        """Return the changes requested so far, in words."""
        words = (_in_words(request) for request in self.requests)
        return [word for word in words if word]

    def go_away(self, how: Absence) -> None:
        self._back.clear()
        self._absence = how
        if how == "refuses":
            assert isinstance(self._server, _Door)
            self._server.shut()

    def come_back(self) -> None:
        how, self._absence = self._absence, None
        self._back.set()
        if how == "refuses":
            self._server = _Door(self, port=self._server.server_port)
            threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()

    def refuse_run(self, dag_run_id: str, *, status: int, body: dict[str, Any]) -> None:
        """Answer this when this run is to be created."""
        self._refused[dag_run_id] = Reply(status, body)

    @contextmanager
    def away(self, how: Absence) -> Iterator[None]:
        self.go_away(how)
        try:
            yield
        finally:
            self.come_back()

    def reply_to(self, request: Request) -> Reply:
        if self._absence == "answers 503":
            return Reply(503, {"detail": "down for maintenance"})
        if self._absence == "hangs":
            self._back.wait(PATIENCE)
            raise ConnectionAbortedError("never answered, never done")
        exchange = self.exchange
        if exchange is None or not exchange.is_at(request):
            return super().reply_to(request)
        try:
            if exchange.moment == "before":
                exchange.meet()
            reply = super().reply_to(request)
            if exchange.moment == "after":
                exchange.meet()
        finally:
            exchange.ended.set()
        return reply

    def _do(self, request: Request, path: str) -> Reply:
        if (request.method, path) in self.answers:
            return super()._do(request, path)
        match request.method, path.strip("/").split("/"):
            case "POST", ["dags", _, "dagRuns"] if request.body["dag_run_id"] in self._refused:
                return self._refused[request.body["dag_run_id"]]
            case "PATCH", ["dags", dag_id]:
                return self._switch(dag_id, request.body["is_paused"])
            case "GET", ["pools"]:
                return Reply(200, {"pools": self.pools, "total_entries": len(self.pools)})
            case "GET", ["monitor", "health"]:
                return Reply(200, self.health)
        return super()._do(request, path)

    def _switch(self, dag_id: str, paused: bool) -> Reply:
        self.switched.append((dag_id, paused))
        for part in ("listed", "details"):
            self.dags[dag_id][part]["is_paused"] = paused
        return Reply(200, self.dags[dag_id]["listed"])


def _in_words(request: Request) -> str:
    match request.method, request.path.removeprefix("/api/v2/").split("/"):
        case "POST", ["dags", _, "dagRuns"]:
            return "trigger"
        case "PATCH", ["dags", _, "dagRuns", _]:
            return f"mark {request.body['state']}"
        case "PATCH", ["dags", dag_id]:
            return f"{'pause' if request.body['is_paused'] else 'unpause'} {dag_id}"
        case "POST", ["dags", _, "clearTaskInstances"] if not request.body["dry_run"]:
            which = ", ".join(request.body.get("task_ids", ["failed" if request.body["only_failed"] else "all"]))
            return f"clear {which}{' and after' if request.body['include_downstream'] else ''}"
    return ""
