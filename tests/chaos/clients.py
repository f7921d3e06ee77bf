"""Seeded clients: of SVOps' API, as products have them, and of Airflow's own, as people at its UI are."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import requests

from tests.chaos.accepted import Accepted, Kind
from tests.chaos.journal import AIRFLOW, Journal
from tests.chaos.side import DAG_IDS, Side
from tests.chaos.stand import PASSWORD

TIMEOUT = 60.0
TASKS = {
    "chaos_chain": ("first", "second", "third"),
    "chaos_mapped": ("instance", "after"),
    "chaos_branch": ("choose", "gate", "left", "right", "never"),
    "chaos_retries": ("fails_once", "behind"),
    "chaos_waiting": ("looks", "sleeps", "wakes"),
    "chaos_setup": ("make_place", "use_place", "delete_place"),
    "chaos_timeout": ("slow", "behind_slow"),
    "chaos_groups": ("part.load", "part.check"),
    "chaos_person": ("ask", "answered"),
    "chaos_starter": ("starts",),
    "chaos_dates": ("dated",),
}
MAPPED = {"instance": 6, "part.load": 2, "part.check": 2}


class Site:
    """SVOps as one of its users has it: every answer goes to the journal, and no error is raised.

    `airflow` is the prefix of the only Airflow that may be needed for an answer.
    """

    def __init__(
        self, url: str, journal: Journal, *, actor: str, airflow: str = AIRFLOW, username: str = "root"
    ) -> None:
        self._url = url
        self._note = partial(journal.note, actor, airflow=airflow)
        self._username = username
        self._token = ""

    def ask(
        self, method: str, path: str, body: Any = None, *, run_id: str = "", headers: Mapping[str, str] | None = None
    ) -> requests.Response | None:
        """The answer, or None when there was none."""
        what = f"{method} {path} {body if body is not None else ''}"
        begun = time.monotonic()
        try:
            answer = self._send(method, path, body, headers or {})
            if answer.status_code == 401:
                self._token = ""
                answer = self._send(method, path, body, headers or {})
        except requests.RequestException as exc:
            status = 0 if exc.response is None else exc.response.status_code
            self._note(what, run_id=run_id, status=status, detail=repr(exc)[:200], begun=begun)
            return None
        detail = answer.text[:300] if answer.status_code >= 400 else None
        self._note(what, run_id=run_id, status=answer.status_code, detail=detail, begun=begun)
        return answer

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> requests.Response:
        signed = {"Authorization": f"Bearer {self.token()}", **headers}
        return requests.request(method, f"{self._url}/api/v1{path}", json=body, headers=signed, timeout=TIMEOUT)

    def token(self) -> str:
        """A fresh access token while there is none; raises `requests.RequestException`."""
        if not self._token:
            body = {"username": self._username, "password": PASSWORD}
            answer = requests.post(f"{self._url}/api/v1/auth/login", json=body, timeout=TIMEOUT)
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        return self._token


class Client:
    """One thread that does one thing after the other with one Airflow until `stop` is set. `url` is that of SVOps."""

    pause = (0.3, 3.0)

    def __init__(self, name: str, side: Side, url: str, journal: Journal, accepted: Accepted, *, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.rng = random.Random(f"{seed}:{name}")
        self.side = side
        self.journal = journal
        self.accepted = accepted
        self.site = Site(url, journal, actor=name, airflow=side.prefix)

    def run(self, stop: threading.Event) -> None:
        steps = self.steps()
        while not stop.wait(self.rng.uniform(*self.pause)):
            self.rng.choice(steps)()

    def steps(self) -> list[Callable[[], object]]:
        raise NotImplementedError


class Product(Client):
    """Triggers runs: one by one, in batches, later, and again under the same key until it has an answer."""

    def __init__(self, *args: Any, workflows: Mapping[str, int], most_open: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._workflows = workflows
        self._most_open = most_open
        self._dags: list[str] = []

    def run(self, stop: threading.Event) -> None:
        steps = self.steps()
        while not stop.wait(self.rng.uniform(*self.pause)):
            if self._has_room():
                self.rng.choice(steps)()

    def _has_room(self) -> bool:
        """Return whether few runs are open: more than a small machine gets done would only wait for each other."""
        query = f"state=pending&state=queued&state=running&airflow={self.side.name}&page_size=50"
        answer = self.site.ask("GET", f"/runs?{query}")
        if answer is None or not answer.ok:
            return False
        return sum(not run["paused"] for run in answer.json()["results"]) < self._most_open

    def steps(self) -> list[Callable[[], object]]:
        return [self._trigger, self._trigger_under_a_key, self._trigger_under_a_key, self._batch, self._later]

    def _request(self) -> dict[str, Any]:
        label = f"{self.seed} {self.name} {uuid.UUID(int=self.rng.getrandbits(128))}"
        self.accepted.send(label)
        parameters = {
            "seconds": self.rng.choice((0, 0.5, 2, 4)),
            "fails": self.rng.random() < 0.3,
            "label": label,
        }
        return {"parameters": parameters, "task_id": self.rng.randrange(10**6), "note": "chaos"}

    def _path(self, end: str = "") -> str:
        # All shapes before one comes again.
        self._dags = self._dags or self.rng.sample(DAG_IDS, len(DAG_IDS))
        return f"/workflows/{self._workflows[self._dags.pop()]}/runs{end}"

    def _dates(self, path: str) -> dict[str, Any]:
        """Return the dates for a DAG that uses `{{ ds }}`; two of its runs never share one."""
        if f"/{self._workflows['chaos_dates']}/" not in path:
            return {}
        date = datetime(2024, 6, 1, tzinfo=UTC) + timedelta(seconds=self.rng.randrange(10**7))
        ends = date + timedelta(hours=self.rng.randrange(1, 48))
        interval = {"start": date.isoformat(), "end": ends.isoformat()}
        return {"logical_date": date.isoformat()} | ({"data_interval": interval} if self.rng.random() < 0.5 else {})

    def _trigger(self) -> None:
        path = self._path()
        self._take(self.site.ask("POST", path, self._request() | self._dates(path)))

    def _later(self) -> None:
        run_at, path = datetime.now(UTC) + timedelta(seconds=self.rng.uniform(2, 8)), self._path()
        self._take(self.site.ask("POST", path, self._request() | self._dates(path) | {"run_at": run_at.isoformat()}))

    def _take(self, answer: requests.Response | None) -> bool:
        if answer is None or answer.status_code not in {200, 201}:
            return False
        self.accepted.add(answer.json())
        return True

    def _trigger_under_a_key(self) -> None:
        path, key = self._path(), str(uuid.UUID(int=self.rng.getrandbits(128)))
        body = self._request() | self._dates(path)
        for _ in range(20):
            if self._take(self.site.ask("POST", path, body, headers={"Idempotency-Key": key})):
                # Once more, as a caller that did not get the answer: it has to be the same run.
                if self.rng.random() < 0.3:
                    self._take(self.site.ask("POST", path, body, headers={"Idempotency-Key": key}))
                return
            time.sleep(self.rng.uniform(0.2, 2))

    def _batch(self) -> None:
        path = self._path("/batch")
        items = [self._request() | self._dates(path) for _ in range(self.rng.randrange(2, 4))]
        answer = self.site.ask("POST", path, {"items": items})
        if answer is not None and answer.ok:
            for item in answer.json()["results"]:
                if run := item.get("run"):
                    self.accepted.add(run)


class Operator(Client):
    """Stops, retries, pauses and resumes what the products have started, and reads about it."""

    pause = (1.0, 4.0)

    def steps(self) -> list[Callable[[], object]]:
        return [
            *(self._stop, self._stop, self._pause, self._resume, self._look),
            *(self._retry_failed, self._retry_failed, self._retry_all, self._retry_from_task),
        ]

    def _control(self, body: dict[str, Any], run: dict[str, Any] | None = None) -> None:
        if run := run or self.accepted.some(self.rng):
            path = f"/workflows/{run['workflow_id']}/runs/{run['id']}/control"
            self.site.ask("POST", path, body | {"note": self.name}, run_id=run["id"])

    def _stop(self) -> None:
        self._control({"action": "stop"})

    def _retry_failed(self) -> None:
        self._control({"action": "retry", "mode": "failed"})

    def _retry_all(self) -> None:
        self._control({"action": "retry", "mode": "all"})

    def _retry_from_task(self) -> None:
        if run := self.accepted.some(self.rng):
            task_id = self.rng.choice(TASKS[run["dag_id"]])
            body: dict[str, Any] = {"action": "retry", "mode": "from_task", "from_task": task_id}
            if task_id in MAPPED and self.rng.random() < 0.5:
                body["map_index"] = self.rng.randrange(MAPPED[task_id])
            self._control(body, run)

    def _pause(self) -> None:
        self._control({"action": "pause", "scope": "workflow"})

    def _resume(self) -> None:
        self._control({"action": "resume"})

    def _look(self) -> None:
        if run := self.accepted.some(self.rng):
            path = f"/workflows/{run['workflow_id']}/runs/{run['id']}"
            for end in ("", "/tasks", "/explain"):
                self.site.ask("GET", f"{path}{end}", run_id=run["id"])


class PersonAtAirflow(Client):
    """Clears, marks, pauses, deletes, triggers and answers in Airflow itself."""

    pause = (1.0, 5.0)

    def steps(self) -> list[Callable[[], object]]:
        return [
            *(self._clear, self._mark, self._mark_task, self._pause, self._unpause, self._unpause),
            *(self._delete, self._trigger, self._answer, self._answer),
        ]

    def _ask(self, kind: str, method: str, path: str, body: Any = None, *, run_id: str = "") -> dict[str, Any]:
        answer, outcome = {}, "done"
        try:
            answer = self.side.ask(method, path, body)
        except requests.RequestException as exc:
            outcome = str(exc)[:120]
        what = f"{kind}: {method} {path} {body or ''}"
        self.journal.note(self.name, what, run_id=run_id, status=299, detail=outcome)
        return answer

    def _change(self, kind: Kind, method: str, end: str = "", body: Any = None) -> None:
        if run := self.accepted.some(self.rng):
            with self.accepted.change(run["dag_run_id"], kind):
                self._ask(kind, method, _in_airflow(run) + end, body, run_id=run["id"])

    def _clear(self) -> None:
        self._change("clear", "POST", "/clear", {"dry_run": False, "only_failed": self.rng.random() < 0.5})

    def _mark(self) -> None:
        self._change("mark", "PATCH", "", {"state": self.rng.choice(("success", "failed"))})

    def _mark_task(self) -> None:
        if run := self.accepted.some(self.rng):
            task_id = self.rng.choice(TASKS[run["dag_id"]])
            end = f"/taskInstances/{task_id}"
            if task_id in MAPPED:
                end += f"/{self.rng.randrange(MAPPED[task_id])}"
            body = {"new_state": self.rng.choice(("success", "failed", "skipped"))}
            with self.accepted.change(run["dag_run_id"], "mark task", task_id):
                self._ask("mark task", "PATCH", _in_airflow(run) + end, body, run_id=run["id"])

    def _pause(self) -> None:
        self._ask("pause", "PATCH", f"/dags/{self.rng.choice(DAG_IDS)}", {"is_paused": True})

    def _unpause(self) -> None:
        for dag in self._ask("list", "GET", "/dags?paused=true&limit=100").get("dags", ()):
            self._ask("unpause", "PATCH", f"/dags/{dag['dag_id']}", {"is_paused": False})

    def _delete(self) -> None:
        if self.rng.random() < 0.4:
            self._change("delete", "DELETE")

    def _trigger(self) -> None:
        dag_id = self.rng.choice(DAG_IDS)
        conf = {"seconds": 1, "label": f"{self.seed} by hand"}
        body = {"dag_run_id": f"hand__{self.rng.getrandbits(64):x}", "logical_date": None, "conf": conf, "note": "hand"}
        self._ask("trigger", "POST", f"/dags/{dag_id}/dagRuns", body)

    def _answer(self) -> None:
        path = "/dags/~/dagRuns/~/hitlDetails?response_received=false&state=awaiting_input"
        waiting = self._ask("list", "GET", path).get("hitl_details", ())
        if waiting:
            task = self.rng.choice(waiting)["task_instance"]
            body = {"chosen_options": [self.rng.choice(("Approve", "Reject"))], "params_input": {}}
            with self.accepted.change(task["dag_run_id"], "answer", task["task_id"]):
                where = f"{_in_airflow(task)}/taskInstances/{task['task_id']}/-1/hitlDetails"
                self._ask("answer", "PATCH", where, body)


class QuickPerson(PersonAtAirflow):
    """Answers a question as soon as Airflow shows it, often before SVOps has polled."""

    pause = (0.1, 0.8)

    def steps(self) -> list[Callable[[], object]]:
        return [self._answer]


def _in_airflow(run: Mapping[str, Any]) -> str:
    return f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
