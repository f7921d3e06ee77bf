"""Parameters are bounded on every way in, and a short question has no long answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from django.conf import settings

from accounts.models import User
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_user, new_workflow, token_of
from workflows.models import Run, Workflow

LARGE = {"text": "x" * 60_000}
TOO_LARGE = {"text": "x" * 70_000}
MOST = 200_000  # bytes of an answer that does not show parameters


@pytest.fixture
def workflow(ada: User) -> Workflow:
    return new_workflow(ada)


@pytest.fixture
def ada() -> User:
    return new_user()


def ask(web: Target, user: User, method: str, path: str, body: Any = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token_of(user)}"}
    return requests.request(method, f"{web.url}/api/v1{path}", json=body, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/workflows/{id}/runs", {"parameters": TOO_LARGE}, "parameters"),
        ("POST", "/workflows/{id}/runs", {"parameters": TOO_LARGE, "run_at": "2099-01-01T00:00:00Z"}, "parameters"),
        ("POST", "/workflows/{id}/runs/validate", {"parameters": TOO_LARGE}, "parameters"),
        ("PATCH", "/workflows/{id}", {"default_parameters": TOO_LARGE}, "default_parameters"),
        ("POST", "/workflows", {"name": "w", "dag_id": "{dag}", "default_parameters": TOO_LARGE}, "default_parameters"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_no_way_in_takes_more(
    web: Target, ada: User, workflow: Workflow, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    """Before: up to 1 MB, and each run had its own copy."""
    body = json.loads(json.dumps(body).replace("{dag}", workflow.dag.dag_id))

    answer = ask(web, ada, method, path.format(id=workflow.pk), body)

    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {field}
    assert str(settings.PARAMETERS_MAX_BYTES) in answer.json()["errors"][field][0]
    assert not Run.objects.filter(workflow=workflow).exists()


def test_the_given_parameters_and_the_defaults_count_together(web: Target, ada: User, workflow: Workflow) -> None:
    assert ask(web, ada, "PATCH", f"/workflows/{workflow.pk}", {"default_parameters": LARGE}).status_code == 200

    answer = ask(web, ada, "POST", f"/workflows/{workflow.pk}/runs", {"parameters": {"more": "x" * 6_000}})

    assert answer.status_code == 400


def test_a_batch_and_the_lists_stay_small(web: Target, ada: User, workflow: Workflow) -> None:
    """Before: 0.95 MB of defaults and a batch of 25 made an answer of 23 MB, and a list of runs of 24 MB."""
    ask(web, ada, "PATCH", f"/workflows/{workflow.pk}", {"default_parameters": LARGE})

    batch = ask(web, ada, "POST", f"/workflows/{workflow.pk}/runs/batch", {"items": [{}] * 25})
    answers = [
        batch,
        *(ask(web, ada, "GET", path) for path in ("/runs", f"/workflows/{workflow.pk}/runs", "/workflows")),
    ]

    assert [result["status"] for result in batch.json()["results"]] == [201] * 25
    assert [answer.status_code for answer in answers] == [200] * 4
    assert max(len(answer.content) for answer in answers) < MOST


def test_a_caller_who_asks_for_the_parameters_gets_them(web: Target, ada: User, workflow: Workflow) -> None:
    run = ask(web, ada, "POST", f"/workflows/{workflow.pk}/runs", {"parameters": {"rows": 1}}).json()
    runs = f"/workflows/{workflow.pk}/runs"

    [brief] = ask(web, ada, "GET", runs).json()["results"]
    [whole] = ask(web, ada, "GET", f"{runs}?include=parameters").json()["results"]
    refused = ask(web, ada, "GET", f"{runs}?include=everything")

    assert "parameters" not in brief
    assert whole["parameters"] == run["parameters"] == {"rows": 1}
    assert whole | {"observed_at": None} == brief | {"parameters": {"rows": 1}, "observed_at": None}
    assert ask(web, ada, "GET", f"{runs}/{run['id']}").json()["parameters"] == {"rows": 1}
    assert (refused.status_code, refused.json()["errors"]) == (400, {"include": ["Expected parameters."]})
