"""The floods: each one as an order for the sender, from one address or from one account."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from typing import Any

import requests

from accounts.models import User
from tests.attack.neighbours.sender import Order
from tests.attack.target import PATIENCE, Target
from tests.attack.test_sockets import TEXT, handshake, head_of_frame
from tests.live.conftest import new_run, new_user, new_workflow, token_of
from workflows.airflow.tests.scripted import Reply, Request, ScriptedAirflow, task_json
from workflows.models import Dag, Workflow
from workflows.states import RunState

ADDRESS = "198.51.100.66"  # of the attacker, as the proxy reports it
MOST = 3_000  # connections of one flood in one window
LONGEST = 60.0  # seconds of one window
KEYS = 20
FOLLOWERS = 44


@dataclass
class Scene:
    """What an attacker owns: an account, a workflow, a run; and the Airflow that the tests script."""

    web: Target
    airflow: ScriptedAirflow
    user: User = field(default_factory=new_user)

    def __post_init__(self) -> None:
        self.workflow: Workflow = new_workflow(self.user)
        self.run = new_run(self.workflow, state=RunState.RUNNING)
        self.token = token_of(self.user)

    def order(self, *first: bytes, at_once: int, most: int = MOST, **more: Any) -> Order:
        return Order(port=self.web.port, first=list(first), at_once=at_once, most=most, seconds=LONGEST, **more)

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "", **headers: str) -> bytes:
        """Return a whole request, as raw bytes. The connection ends with its answer."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        token = token or self.token
        lines = {
            "Host": "127.0.0.1",
            "Connection": "close",
            "X-Forwarded-For": ADDRESS,
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Content-Length": str(len(raw)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        if token == NOBODY:
            del lines["Authorization"]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw

    def call(self, path: str, body: Any) -> dict[str, Any]:
        """POST, outside of the flood, and return the answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.post(f"{self.web.url}{path}", json=body, headers=headers, timeout=PATIENCE)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def new_config(self, channel: str, **target: Any) -> dict[str, Any]:
        return {"name": "flood", "channel": channel, "notification_types": ["workflow_failed"], **target}


NOBODY = "nobody"
LOGIN = "/api/v1/auth/login"


def decoders(scene: Scene) -> Order:
    """Bodies of 200 KB in punycode and JSON of 100,000 levels, ten at once."""
    punycode = b'{"username": "' + b"a" * 200_000 + b'"}'
    deep = b"[" * 100_000
    return scene.order(
        scene.ask("POST", LOGIN, punycode, token=NOBODY, Content_Type="application/json; charset=punycode"),
        scene.ask("POST", LOGIN, deep, token=NOBODY),
        at_once=10,
        pause=1.0,
    )


def unfinished_frames(scene: Scene) -> Order:
    """60 sockets that have not signed in, each with 15 MB of a message that never ends."""
    frame = head_of_frame(TEXT, 16_000_000) + b"x" * 1_000_000
    return scene.order(handshake(ADDRESS), then=frame, drip=b"x" * 1_000, at_once=60, pause=0.5)


def slow_heads(scene: Scene) -> Order:
    """200 connections that send a head without end, some bytes at a time."""
    head = b"GET /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    return scene.order(head, drip=b"x", at_once=200, pause=0.5)


def readiness(scene: Scene) -> Order:
    """40 loops on /readyz."""
    return scene.order(scene.ask("GET", "/readyz", token=NOBODY), at_once=40, pause=0.5)


def patterns(scene: Scene) -> Order:
    """A pattern with nested repeats against 29 characters, ten at once."""
    schema = {"properties": {"p": {"type": "string", "pattern": "^(a+)+$|x"}}, "required": []}
    Dag.objects.filter(pk=scene.workflow.dag_id).update(params_schema=schema)
    path = f"/api/v1/workflows/{scene.workflow.pk}/runs/validate"
    return scene.order(scene.ask("POST", path, {"parameters": {"p": "a" * 29 + "!"}}), at_once=10, pause=1.0)


def log_followers(scene: Scene) -> Order:
    """44 followers of 44 logs that Airflow is slow to prepare."""
    tasks = f"/dags/{scene.run.dag_id}/dagRuns/{scene.run.dag_run_id}/taskInstances"
    for n in range(FOLLOWERS):
        name, path = f"task_{n}", f"{tasks}/task_{n}"
        scene.airflow.answers["GET", path] = task_json(
            scene.run.dag_id, scene.run.dag_run_id, name, state="running", try_number=1
        )
        scene.airflow.answers["GET", f"{path}/logs/1"] = _slow_log
    base = f"/api/v1/workflows/{scene.workflow.pk}/runs/{scene.run.pk}/tasks"
    first = [scene.ask("GET", f"{base}/task_{n}/logs/stream") for n in range(FOLLOWERS)]
    return scene.order(*first, at_once=FOLLOWERS, pause=0.5)


def _slow_log(_: Request) -> Reply:
    threading.Event().wait(2)  # seconds that Airflow takes
    return Reply(200, b'{"event": "a line", "level": "info"}\n' * 1_000)


def questions_on_streams(scene: Scene) -> Order:
    """100 sockets with 10 get_status each, again and again."""
    question = json.dumps({"type": "get_status", "run_id": str(scene.run.pk)}).encode()
    frame = head_of_frame(TEXT, len(question)) + question
    return scene.order(handshake(ADDRESS, token=scene.token), then=frame * 10, drip=frame, at_once=100, pause=0.2)


def batches(scene: Scene) -> Order:
    """Batches of 25 runs with 60 KB of default parameters, and the lists of these runs."""
    Workflow.objects.filter(pk=scene.workflow.pk).update(default_parameters={"text": "x" * 60_000})
    runs = f"/api/v1/workflows/{scene.workflow.pk}/runs"
    batch = scene.ask("POST", f"{runs}/batch", {"items": [{"run_at": "2099-01-01T00:00:00Z"}] * 25})
    lists = scene.ask("GET", f"{runs}?include=parameters&limit=200")
    return scene.order(batch, lists, at_once=2, most=20, pause=0.5)


def many_keys(scene: Scene) -> Order:
    """20 loops, each with a key of its own of the same account."""
    tokens = [scene.token]
    for number in range(KEYS - 1):
        body = {"name": f"flood {number}", "scopes": ["workflow:read"]}
        made = scene.call("/api/v1/api-keys", body)
        tokens.append(made["key"])
    return scene.order(*(scene.ask("GET", "/api/v1/runs", token=token) for token in tokens), at_once=KEYS, pause=0.5)


def apprise_saves(scene: Scene) -> Order:
    """15 saves of Apprise targets at once."""
    target = scene.new_config("apprise", url=f"discord://{'1' * 18}/{'a' * 68}")
    return scene.order(scene.ask("POST", "/api/v1/notifications/configs", target), at_once=15, most=60, pause=0.5)


def mail_tests(scene: Scene) -> Order:
    """60 test mails in a row, six at once."""
    scene.user.email = f"{scene.user.username}@example.com"
    scene.user.save(update_fields=["email"])
    made = scene.call("/api/v1/notifications/configs", scene.new_config("email", recipients=[scene.user.email]))
    path = f"/api/v1/notifications/configs/{made['id']}/test"
    return scene.order(scene.ask("POST", path), at_once=6, most=60, pause=0.2)


def sign_ins(scene: Scene) -> Order:
    """Ten loops that guess passwords."""
    guess = {"username": "admin", "password": os.urandom(8).hex()}
    return scene.order(scene.ask("POST", LOGIN, guess, token=NOBODY), at_once=10, pause=1.0)
