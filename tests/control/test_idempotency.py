"""An Idempotency-Key: repeated requests create one run, however fast they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import requests
from django.conf import settings
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.staged import ControlledAirflow
from tests.live.parts import Web
from workflows import retention
from workflows.conftest import token_of
from workflows.models import AirflowCommand, Event, IdempotencyKey, Run, Workflow
from workflows.tests.stage import story

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = 50
KEY = "order-4711"
BODY = {"parameters": {"rows": 7}, "task_id": "t-1"}

Answer = tuple[int, bool, Any]


@pytest.fixture
def web(tmp_path: Path, airflow: ControlledAirflow) -> Iterator[Web]:
    """A web process as the platform starts it."""
    where = {"AIRFLOW_URL": airflow.url, "AIRFLOW_USERNAME": "admin", "AIRFLOW_PASSWORD": "admin"}
    with Web(tmp_path, **where) as web:
        yield web


def together(web: Web, workflow: Workflow, asked: list[tuple[str, dict[str, Any]]]) -> list[Answer]:
    """POST these (token, body) at the same moment under one key, each over a connection of its own."""
    start = Barrier(len(asked))
    url = f"{web.url}/api/v1/workflows/{workflow.pk}/runs"

    def post(token: str, body: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": KEY}
        start.wait(60)
        answer = requests.post(url, json=body, headers=headers, timeout=120)
        read = answer.json()
        return answer.status_code, answer.headers.get("Idempotent-Replayed") == "true", read.get("id", read.get("code"))

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(post, *zip(*asked, strict=True)))


def trigger(api: APIClient, workflow: Workflow, *, key: str = KEY, **body: Any) -> Answer:
    path = f"/api/v1/workflows/{workflow.pk}/runs"
    answer = api.post(path, {**BODY, **body}, headers={"Idempotency-Key": key})
    read = answer.json()
    return answer.status_code, "Idempotent-Replayed" in answer.headers, read.get("id", read.get("code"))


def counts() -> tuple[int, int, int, int]:
    models = (Run, IdempotencyKey, AirflowCommand, Event)
    runs, keys, commands, events = (model.objects.count() for model in models)
    return runs, keys, commands, events


def test_fifty_requests_at_once_with_one_key_make_one_run_and_get_the_same_answer(
    web: Web, airflow: ControlledAirflow, nightly: Workflow, ada: User
) -> None:
    answers = together(web, nightly, [(token_of(ada), BODY)] * AT_ONCE)

    run = Run.objects.get()
    assert Counter(answers) == {(201, False, str(run.pk)): 1, (201, True, str(run.pk)): AT_ONCE - 1}
    assert airflow.order == [run.dag_run_id]
    assert story(run) == ["workflow.triggered"]
    assert counts() == (1, 1, 1, 1)


def test_only_one_of_two_bodies_sent_at_once_with_one_key_is_accepted_and_the_other_is_422(
    web: Web, airflow: ControlledAirflow, nightly: Workflow, ada: User
) -> None:
    token = token_of(ada)
    bodies = [{**BODY, "note": note} for note in ("a", "b")]

    answers = together(web, nightly, [(token, bodies[n % 2]) for n in range(AT_ONCE)])

    run = Run.objects.get()
    mine = str(run.pk)
    won = ["a", "b"].index(run.note)
    assert Counter(answers[won::2]) == {(201, False, mine): 1, (201, True, mine): AT_ONCE // 2 - 1}
    assert Counter(answers[1 - won :: 2]) == {(422, False, "idempotency_key_reused"): AT_ONCE // 2}
    assert airflow.order == [run.dag_run_id]


def test_two_users_with_the_same_key_at_once_get_a_run_each(
    web: Web, airflow: ControlledAirflow, nightly: Workflow, ada: User, eve: User
) -> None:
    tokens = [token_of(user) for user in (ada, eve)]

    answers = together(web, nightly, [(tokens[n % 2], BODY) for n in range(AT_ONCE)])

    for n, user in enumerate((ada, eve)):
        mine = str(Run.objects.get(user=user).pk)
        assert Counter(answers[n::2]) == {(201, False, mine): 1, (201, True, mine): AT_ONCE // 2 - 1}
    assert sorted(airflow.order) == sorted(Run.objects.values_list("dag_run_id", flat=True))
    assert counts() == (2, 2, 2, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"parameters": {"rows": 8}},
        {"parameters": {}},
        {"task_id": "t-2"},
        {"task_id": 1},
        {"dataset_id": 1},
        {"note": "x"},
    ],
    ids=str,
)
def test_the_same_key_with_another_body_is_422_and_makes_nothing(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, other: dict[str, Any]
) -> None:
    status, replayed, run_id = trigger(api, nightly)
    assert (status, replayed) == (201, False)

    assert trigger(api, nightly, **other) == (422, False, "idempotency_key_reused")

    assert trigger(api, nightly) == (201, True, run_id)
    assert counts() == (1, 1, 1, 1)
    assert len(airflow.order) == 1


def test_the_same_key_and_body_for_another_workflow_is_422(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, ada: User
) -> None:
    other = Workflow.objects.create(name="Other", dag=nightly.dag, owner=ada)
    trigger(api, nightly)

    assert trigger(api, other) == (422, False, "idempotency_key_reused")

    assert counts() == (1, 1, 1, 1)


def test_a_replay_shows_the_run_as_it_is_now_even_when_it_could_not_be_triggered_any_more(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    _, _, run_id = trigger(api, nightly)
    Workflow.objects.update(is_active=False)

    assert trigger(api, nightly) == (201, True, run_id)
    assert trigger(api, nightly, key="another") == (409, False, "workflow_inactive")


def test_a_refused_request_does_not_use_its_key_up(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    assert trigger(api, nightly, parameters={"rows": 0}) == (400, False, "invalid")
    assert counts() == (0, 0, 0, 0)

    assert trigger(api, nightly)[:2] == (201, False)


@pytest.mark.parametrize("key", ["", "k" * 201], ids=["empty", "too long"])
@pytest.mark.parametrize("path", ["runs", "runs/batch"])
def test_a_key_that_is_empty_or_longer_than_200_characters_is_refused(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, path: str, key: str
) -> None:
    body = BODY if path == "runs" else {"items": [BODY]}
    answer = api.post(f"/api/v1/workflows/{nightly.pk}/{path}", body, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["errors"] == {"Idempotency-Key": ["Expected 1 to 200 characters."]}
    assert counts() == (0, 0, 0, 0)
    assert trigger(api, nightly, key="k" * 200)[:2] == (201, False)


def batch(api: APIClient, workflow: Workflow, *items: Any) -> list[tuple[int, Any]]:
    path = f"/api/v1/workflows/{workflow.pk}/runs/batch"
    answer = api.post(path, {"items": list(items)}, headers={"Idempotency-Key": KEY})
    assert answer.status_code == 200
    results = answer.json()["results"]
    return [(r["status"], r["run"]["id"] if "run" in r else r["error"]["code"]) for r in results]


def test_a_batch_repeated_under_its_key_makes_only_what_had_failed(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    first, bad, second = {"task_id": 1}, {"task_id": 2, "parameters": {"rows": 0}}, {"task_id": 3}
    before = batch(api, nightly, first, bad, second)
    assert [status for status, _ in before] == [201, 400, 201]
    assert before[1] == (400, "invalid")

    mended = batch(api, nightly, first, {"task_id": 2}, second)

    assert [mended[0], mended[2]] == [before[0], before[2]]
    assert mended[1] == (201, str(Run.objects.get(task_id=2).pk))
    assert [Run.objects.get(pk=run_id).task_id for _, run_id in mended] == [1, 2, 3]
    assert len(airflow.order) == 3


def test_a_batch_whose_runs_are_all_replayed_says_so(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    """Before: only a single trigger said it."""
    path, headers = f"/api/v1/workflows/{nightly.pk}/runs/batch", {"Idempotency-Key": KEY}

    def said(*items: Any) -> str | None:
        return api.post(path, {"items": list(items)}, headers=headers).headers.get("Idempotent-Replayed")

    assert [said({"task_id": 1}), said({"task_id": 1}), said({"task_id": 1}, {"task_id": 2})] == [None, "true", None]


def test_an_item_of_a_batch_that_differs_under_its_key_is_422_alone(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    before = batch(api, nightly, {"task_id": 1}, {"task_id": 2})

    after = batch(api, nightly, {"task_id": 1}, {"task_id": 22}, {"task_id": 3})

    assert after[0] == before[0]
    assert after[1] == (422, "idempotency_key_reused")
    assert after[2][0] == 201
    assert list(Run.objects.order_by("created_at").values_list("task_id", flat=True)) == [1, 2, 3]


def test_a_key_is_kept_for_its_time_of_at_least_a_day_and_forgotten_after_it(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    _, _, run_id = trigger(api, nightly)
    used_at = IdempotencyKey.objects.get().created_at
    kept = timedelta(hours=settings.KEEP_IDEMPOTENCY_KEYS_HOURS)
    assert kept >= timedelta(hours=24)

    assert retention.clean(now=used_at + kept)["idempotency_keys"] == 0
    assert trigger(api, nightly) == (201, True, run_id)

    assert retention.clean(now=used_at + kept + timedelta(seconds=1))["idempotency_keys"] == 1
    status, replayed, other = trigger(api, nightly)
    assert (status, replayed, other != run_id) == (201, False, True)


def test_the_start_time_is_part_of_the_request_that_a_key_identifies(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    run_at = (timezone.now() + timedelta(hours=1)).isoformat()
    _, _, run_id = trigger(api, nightly, run_at=run_at)

    assert trigger(api, nightly, run_at=run_at) == (201, True, run_id)
    assert trigger(api, nightly) == (422, False, "idempotency_key_reused")
    assert airflow.order == []


def test_a_viewer_is_refused_before_the_key_is_looked_at(
    airflow: ControlledAirflow, nightly: Workflow, as_user: Callable[[User], APIClient], vera: User
) -> None:
    assert trigger(as_user(vera), nightly) == (403, False, "permission_denied")
    assert counts() == (0, 0, 0, 0)
