"""One user who follows logs without end: what that costs Airflow and everybody else."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests

from accounts.models import User
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_run, new_user, new_workflow, token_of
from workflows import gateway
from workflows.airflow.tests.scripted import Reply, Request, ScriptedAirflow, task_json
from workflows.models import Event, Run
from workflows.naming import DEFAULT
from workflows.states import RunState

FOLLOWERS = 44
MOST_OF_ONE_USER = 10  # LOG_FOLLOWERS_PER_USER


class Logs:
    """The logs of a run's tasks. Airflow prepares each until they are released, and counts how often it was asked."""

    def __init__(self, airflow: ScriptedAirflow, run: Run, count: int) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        for task_id in (f"task_{n}" for n in range(count)):
            path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/{task_id}"
            airflow.answers["GET", path] = task_json(run.dag_id, run.dag_run_id, task_id, state="running", try_number=1)
            airflow.answers["GET", f"{path}/logs/1"] = self

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.path)
        assert self.released.wait(PATIENCE)
        return Reply(200, json.dumps({"event": "a line", "level": "info"}).encode() + b"\n")


@pytest.fixture
def mallory() -> User:
    return new_user()


@pytest.fixture
def ada() -> User:
    return new_user()


@pytest.fixture
def run(mallory: User) -> Run:
    return new_run(new_workflow(mallory), state=RunState.RUNNING)


def streams(web: Target, run: Run, user: User, task_ids: list[str], stack: ExitStack) -> Counter[tuple[int, str]]:
    """Open all of these streams at once, and keep them open. Count their statuses, with the code of an error."""
    headers = {"Authorization": f"Bearer {token_of(user)}"}
    base = f"{web.url}/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks"

    def begin(task_id: str) -> requests.Response:
        return requests.get(f"{base}/{task_id}/logs/stream", headers=headers, stream=True, timeout=PATIENCE)

    with ThreadPoolExecutor(len(task_ids)) as pool:
        answers = [stack.enter_context(answer) for answer in pool.map(begin, task_ids)]
    return Counter((each.status_code, "" if each.ok else each.json()["code"]) for each in answers)


def no_outage() -> bool:
    down = Event.objects.filter(type="system.airflow_down").exists()
    return gateway.breaker_is_closed(DEFAULT) and gateway.answers(DEFAULT) and not down


def test_one_user_with_44_log_followers_is_no_outage_for_anybody(
    web: Target, airflow: ScriptedAirflow, run: Run, mallory: User, ada: User
) -> None:
    """Before: 44 followers took every connection to Airflow. Waiting for one counted as an outage: the breaker opened,
    and everybody got `system.airflow_down`.
    """
    attacked = Logs(airflow, run, FOLLOWERS)
    hers = new_run(new_workflow(ada), state=RunState.RUNNING)
    mine = Logs(airflow, hers, 1)
    mine.released.set()
    headers = {"Authorization": f"Bearer {token_of(ada)}"}
    with ExitStack() as stack:
        answers = streams(web, run, mallory, [f"task_{n}" for n in range(FOLLOWERS)], stack)
        workflow = f"{web.url}/api/v1/workflows/{hers.workflow_id}"
        log = requests.get(f"{workflow}/runs/{hers.pk}/tasks/task_0/logs", headers=headers, timeout=PATIENCE)
        triggered = requests.post(f"{workflow}/runs", json={}, headers=headers, timeout=PATIENCE)
        under_way = len(attacked.asked)
        attacked.released.set()

    assert set(answers) <= {(200, ""), (429, "busy"), (503, "busy")}
    assert answers[429, "busy"] > 0
    assert answers[200, ""] <= MOST_OF_ONE_USER
    # One less than AIRFLOW_POOL_LOGS: the other one is free for everybody else.
    assert under_way == 2
    assert [line["text"] for line in log.json()["lines"]] == ["a line"]
    assert (triggered.status_code, triggered.json()["state"]) == (201, "queued")
    assert no_outage()


def test_all_who_follow_one_log_share_one_reading(
    web: Target, airflow: ScriptedAirflow, run: Run, mallory: User, ada: User
) -> None:
    """Before: each of the 44 followers read the whole log again and again."""
    log = Logs(airflow, run, 1)
    with ExitStack() as stack:
        mallorys = streams(web, run, mallory, ["task_0"] * FOLLOWERS, stack)
        adas = streams(web, run, ada, ["task_0"] * 2, stack)
        asked = len(log.asked)
        log.released.set()

    assert mallorys == {(200, ""): MOST_OF_ONE_USER, (429, "busy"): FOLLOWERS - MOST_OF_ONE_USER}
    assert adas == {(200, ""): 2}
    assert asked == 1
    assert no_outage()
