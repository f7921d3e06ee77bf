"""A small Airflow 3 behind a real socket. It keeps runs, checks tokens, and misbehaves on request."""

import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from workflows.airflow import Access, Password

API = "/api/v2"


@dataclass(frozen=True)
class Reply:
    """Answer this instead of executing the request. A body of bytes is sent as it is, not as JSON."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HangUp:
    """Close the connection without an answer, after executing the request or not."""

    after_doing_it: bool


@dataclass
class Drip:
    """Answer one byte at a time, at this pace, and perhaps end in the middle."""

    pace: float
    arrived: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@dataclass
class Hold:
    """Report that the request has come, and answer only after the release."""

    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


Misbehaviour = Reply | HangUp | Drip | Hold


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    raw_path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any

    @property
    def token(self) -> int:
        """Return the number of the token; 0 without one."""
        number = self.headers.get("Authorization", "").rpartition("token-")[2]
        return int(number) if number.isdecimal() else 0


Handler = Callable[[Request], Reply]


class ScriptedAirflow:
    """The server. `next_api_calls` is used up by API requests, `answers` replaces endpoints, `pages` other paths."""

    def __init__(self, *, api: str = API, version: str = "3.3.2", tls: ssl.SSLContext | None = None) -> None:
        self.api = api
        self.version = version
        self.username, self.password = "admin", "admin"
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.next_api_calls: deque[Misbehaviour] = deque()
        self.answers: dict[tuple[str, str], Any] = {}
        self.pages: dict[tuple[str, str], Handler] = {}
        self.logins = 0
        self.clock_ahead = 0.0  # seconds
        self._oldest_token = 1
        # What is in front of Airflow asks everybody who they are, for every path.
        self.is_guarded = False
        self.refusal = Reply(401, {"detail": "Token Expired"})
        self._server = _Server(self, tls)
        self._scheme = "https" if tls else "http"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Return method and path of each API request so far, without those for the version."""
        return [
            (request.method, request.path.removeprefix(self.api))
            for request in self.requests
            if request.path.startswith(self.api) and not request.path.endswith("/version")
        ]

    def last(self) -> Request:
        return self.requests[-1]

    def expire_tokens(self, refusal: Reply | None = None) -> None:
        """Refuse every token given so far."""
        self.refusal = refusal or self.refusal
        self._oldest_token = self.logins + 1

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply_to(self, request: Request) -> Reply:
        if self.is_guarded and (request.method, request.path) not in self.pages and not self._knows(request):
            return self.refusal
        if (request.method, request.path) in self.pages:
            return self.pages[request.method, request.path](request)
        if request.path == "/auth/token":
            return self._log_in(request)
        if not request.path.startswith(f"{self.api}/"):
            return Reply(404, {"error": "API route not found"})
        path = request.path.removeprefix(self.api)
        if path == "/version":
            return Reply(200, {"version": self.version, "git_version": None})
        is_open = path == "/monitor/health" or self.api != API
        if not is_open and not self._knows(request):
            return self.refusal
        return self._do(request, path)

    def _log_in(self, request: Request) -> Reply:
        if request.body != {"username": self.username, "password": self.password}:
            return Reply(401, {"detail": "Invalid credentials"})
        self.logins += 1
        return Reply(201, {"access_token": f"token-{self.logins}"})

    def _knows(self, request: Request) -> bool:
        return request.headers.get("Authorization", "").startswith("Bearer ") and request.token >= self._oldest_token

    def _do(self, request: Request, path: str) -> Reply:
        if (request.method, path) in self.answers:
            answer = self.answers[request.method, path]
            return answer(request) if callable(answer) else Reply(200, answer)
        match request.method, path.strip("/").split("/"):
            case "POST", ["dags", dag_id, "dagRuns"]:
                return self._trigger(dag_id, request.body)
            case "GET", ["dags", dag_id, "dagRuns", run_id]:
                return self._run(dag_id, run_id)
            case "DELETE", ["dags", dag_id, "dagRuns", run_id]:
                del self.runs[dag_id, run_id]
                return Reply(204)
        return Reply(404, {"error": "API route not found"})

    def _trigger(self, dag_id: str, body: Mapping[str, Any]) -> Reply:
        key, date = (dag_id, body["dag_run_id"]), body["logical_date"]
        dates = {run["logical_date"] for run in self.runs.values() if run["dag_id"] == dag_id} - {None}
        if key in self.runs or date in dates:
            return Reply(409, {"detail": {"reason": "Unique constraint violation", "statement": "hidden"}})
        interval = {name: body.get(name, date) for name in ("data_interval_start", "data_interval_end")}
        given = {"conf": body["conf"], "note": body["note"], "logical_date": date, **interval}
        self.runs[key] = run_json(dag_id, body["dag_run_id"], **given)
        return Reply(200, self.runs[key])

    def _run(self, dag_id: str, run_id: str) -> Reply:
        run = self.runs.get((dag_id, run_id))
        return Reply(200, run) if run else Reply(404, {"detail": f"The DagRun `{run_id}` was not found"})


def run_json(dag_id: str, run_id: str, **fields: Any) -> dict[str, Any]:
    run = {"dag_id": dag_id, "dag_run_id": run_id, "state": "queued", "run_type": "manual", "conf": {}}
    dates = dict.fromkeys(("logical_date", "start_date", "end_date"))
    return {**run, **dates, "queued_at": "2026-11-23T06:39:35.254413Z", "triggered_by": "rest_api", **fields}


def task_json(dag_id: str, run_id: str, task_id: str, **fields: Any) -> dict[str, Any]:
    names = {"dag_id": dag_id, "dag_run_id": run_id, "task_id": task_id, "map_index": -1}
    return {**names, "state": None, "try_number": 0, "max_tries": 0, "pool": "default_pool", **fields}


def paged(key: str, rows: list[dict[str, Any]]) -> Handler:
    """Return an endpoint that gives these rows in pages, which are chosen by query or by body."""

    def handle(request: Request) -> Reply:
        asked = request.body or {name: values[0] for name, values in request.query.items()}
        offset = int(asked.get("page_offset", asked.get("offset", 0)))
        limit = int(asked.get("page_limit", asked.get("limit", 50)))
        return Reply(200, {key: rows[offset : offset + limit], "total_entries": len(rows)})

    return handle


def by_password(url: str, username: str = "admin", password: str = "admin") -> Access:  # noqa: S107
    return Access(base_url=url, way=Password(username=username, password=password))


@contextmanager
def unused_port() -> Iterator[int]:
    """Give a port on which nobody listens meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Not waited for: a handler may sit in a read on a connection that the client keeps alive.
    block_on_close = False

    def __init__(self, airflow: ScriptedAirflow, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.airflow = airflow
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the script."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._answer(self._read())

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.server.airflow.clock_ahead)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _read(self) -> Request:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return Request(
            method=self.command,
            path=unquote(url.path),
            raw_path=url.path,
            query=parse_qs(url.query),
            headers=dict(self.headers),
            body=_parsed(body, self.headers.get("Content-Type", "")),
        )

    def _answer(self, request: Request) -> None:
        airflow = self.server.airflow
        airflow.requests.append(request)
        is_api_call = request.path.startswith(airflow.api) and not request.path.endswith("/version")
        fault = airflow.next_api_calls.popleft() if is_api_call and airflow.next_api_calls else None
        match fault:
            case Reply():
                self._send(fault)
            case HangUp():
                if fault.after_doing_it:
                    airflow.reply_to(request)
                self.close_connection = True
            case Drip():
                self._drip(fault)
            case Hold():
                fault.arrived.set()
                fault.released.wait(10)
                self._send(airflow.reply_to(request))
            case None:
                self._send(airflow.reply_to(request))

    def _send(self, reply: Reply) -> None:
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        body = b"" if reply.body is None else raw
        self.server.airflow.bytes_sent += len(body)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, drip: Drip) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        drip.arrived.set()
        while not drip.ended.wait(drip.pace):
            self.wfile.write(b" ")
        self.close_connection = True


def _parsed(body: bytes, content_type: str) -> Any:
    if content_type.startswith("application/x-www-form-urlencoded"):
        return {name: values[0] for name, values in parse_qs(body.decode()).items()}
    return json.loads(body) if body else None
