"""Pages of runs: every caller with every filter gets what a naive reader of the table would get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.api_keys import create_key
from accounts.authentication import caller_of
from accounts.identity import Scope
from accounts.models import User
from workflows.api import run_pages
from workflows.api.tests.asking import V1
from workflows.conftest import bearer, token_of
from workflows.models import Dag, Grant, Run, TriggerType, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db

Fits = Callable[[Run], bool]
STATES = [*RunState, *[RunState.SUCCESS] * 8, RunState.FAILED]

# Each filter, and which runs fit.
FILTERS: dict[str, Fits] = {
    "": lambda run: True,
    "state=success": lambda run: run.state == "success",
    "state=failed": lambda run: run.state == "failed",
    "state=stopped": lambda run: run.state == "stopped",
    "state=stopped&state=failed": lambda run: run.state in {"stopped", "failed"},
    "paused=true": lambda run: run.is_paused,
    "paused=false": lambda run: not run.is_paused,
    "task_id=7": lambda run: run.task_id in {7, "7"},
    "task_id=seven": lambda run: run.task_id == "seven",
    "dataset_id=-3": lambda run: run.dataset_id in {-3, "-3"},
    "trigger_type=api": lambda run: run.trigger_type == "api",
    "trigger_type=external": lambda run: run.trigger_type == "external",
    "user={ada}": lambda run: run.user is not None and run.user.username == "ada",
    "dag_id=etl": lambda run: run.dag_id == "etl",
    "dag_id=other": lambda run: run.dag_id == "other",
    "workflow={hidden}": lambda run: run.workflow.name == "hidden",
    "workflow={granted}": lambda run: run.workflow.name == "granted",
    "workflow=999999": lambda run: False,
    "workflow={hidden}&state=failed": lambda run: run.workflow.name == "hidden" and run.state == "failed",
    "created_after=2026-03-01T12:00:20Z": lambda run: run.created_at >= at(20),
    "created_before=2026-03-01T12:00:20Z": lambda run: run.created_at < at(20),
    "created_before=2026-03-01T12:00:20Z&state=failed": lambda run: run.created_at < at(20) and run.state == "failed",
    "search=NEEDLE": lambda run: "needle" in run.note,
    "search=exit+1": lambda run: "exit 1" in run.state_reason,
    "search=grant": lambda run: run.workflow.name == "granted",
    "search=svops__": lambda run: run.dag_run_id.startswith("svops__"),
    "search=%25": lambda run: False,
}


@pytest.fixture
def world(etl: Dag, ada: User, eve: User, vera: User) -> dict[str, Any]:
    """Workflows of every kind of right, with runs that differ in all that a filter names, some made in one moment."""
    other, crew = Dag.objects.create(dag_id="other"), Group.objects.create(name="crew")
    vera.groups.add(crew)
    made = {
        name: Workflow.objects.create(name=name, dag=dag, owner=owner, visibility=visibility, deleted_at=deleted_at)
        for name, dag, owner, visibility, deleted_at in [
            ("internal", etl, ada, Visibility.INTERNAL, None),
            ("hidden", etl, ada, Visibility.PRIVATE, None),
            ("granted", other, ada, Visibility.PRIVATE, None),
            ("for the crew", etl, ada, Visibility.PRIVATE, None),
            ("deleted", etl, ada, Visibility.INTERNAL, NOW),
            ("of eve", other, eve, Visibility.PRIVATE, None),
        ]
    }
    Grant.objects.create(workflow=made["granted"], user=vera)
    Grant.objects.create(workflow=made["for the crew"], group=crew)
    for n in range(90):
        _run_of(n, list(made.values()), owners=[ada, eve])
    return {name: workflow.pk for name, workflow in made.items()} | {"ada": ada.pk}


def _run_of(n: int, workflows: list[Workflow], *, owners: list[User]) -> None:
    run = new_run(
        workflows[n * n % len(workflows)],
        STATES[n % len(STATES)],
        user=owners[n % 2],
        note="a needle" if n % 13 == 5 else "",
        state_reason="exit 1" if n % 11 == 3 else "",
        paused=n % 5 == 2,
        trigger_type=list(TriggerType)[n % 4],
        task_id=[None, 7, "7", "seven"][n % 4],
        dataset_id=[-3, "-3", None, 0, "0"][n % 5],
    )
    if n % 3 == 0:
        run.tasks.create(task_id="t", state="running")
    Run.objects.filter(pk=run.pk).update(created_at=at(n // 3))


def as_person(user: User) -> APIClient:
    return bearer(token_of(user))


def by_key(user: User, *, workflow_ids: list[int]) -> APIClient:
    made = create_key(caller=caller_of(user), name="k", scopes=[Scope.WORKFLOW_READ], workflow_ids=workflow_ids)
    return bearer(made.text)


def readable(user: User, workflow: Workflow) -> bool:
    """Return whether the user may read the workflow's runs: the rule of the contract, said once more."""
    granted = any(
        grant.user_id == user.pk or (grant.group and user.groups.filter(pk=grant.group_id).exists())
        for grant in workflow.grants.all()
    )
    shared = workflow.visibility == Visibility.INTERNAL or granted
    return user.is_superuser or workflow.owner_id == user.pk or (workflow.deleted_at is None and shared)


def naive(user: User, fits: Fits, *, within: list[int] | None = None) -> list[str]:
    """Return the ids of the runs that the user may see and that fit, newest first, as a reader of the table would."""
    seen = {workflow.pk for workflow in Workflow.objects.all() if readable(user, workflow)}
    seen = seen if within is None else seen & set(within)
    runs = sorted(Run.objects.all(), key=lambda run: (run.created_at, run.pk), reverse=True)
    return [str(run.pk) for run in runs if run.workflow_id in seen and fits(run)]


def pages(client: APIClient, query: str, *, towards: str = "next", size: int = 7) -> Iterator[dict[str, Any]]:
    url = f"{V1}/runs?page_size={size}&{query}"
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.json()
        page = answer.json()
        yield page
        url = page[towards]


def ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["results"]]


def read(client: APIClient, query: str) -> list[str]:
    return [found for page in pages(client, query) for found in ids(page)]


@pytest.fixture(params=[2000, 5], ids=["newest", "of each workflow"])
def _few_are_read_first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_pages, "NEWEST", request.param)


@pytest.mark.parametrize("who", ["root", "ada", "eve", "vera"])
@pytest.mark.usefixtures("_few_are_read_first")
def test_every_caller_gets_the_runs_of_every_filter(
    request: pytest.FixtureRequest, world: dict[str, Any], who: str
) -> None:
    user: User = request.getfixturevalue(who)
    client = as_person(user)

    found = {query: read(client, query.format(**world)) for query in FILTERS}

    assert found == {query: naive(user, fits) for query, fits in FILTERS.items()}
    assert sum(map(len, found.values())) > 100


@pytest.mark.usefixtures("_few_are_read_first")
def test_a_key_for_certain_workflows_gets_their_runs(world: dict[str, Any], root: User, vera: User) -> None:
    for user, names in [(root, ["hidden", "of eve"]), (vera, ["granted"])]:
        within = [world[name] for name in names]
        client = by_key(user, workflow_ids=within)

        found = {query: read(client, query.format(**world)) for query in FILTERS}

        assert found == {query: naive(user, fits, within=within) for query, fits in FILTERS.items()}


@pytest.mark.parametrize("query", ["", "state=failed", "search=needle", "ordering=created_at"])
@pytest.mark.usefixtures("_few_are_read_first")
def test_the_way_back_shows_the_same_pages(world: dict[str, Any], vera: User, query: str) -> None:
    client = as_person(vera)
    there = list(pages(client, query))

    back = []
    url = there[-1]["previous"]
    while url:
        page = client.get(url).json()
        back.append(ids(page))
        url = page["previous"]

    assert back == [ids(page) for page in reversed(there[:-1])]


def test_the_oldest_come_first_if_asked(world: dict[str, Any], vera: User) -> None:
    found = read(as_person(vera), "ordering=created_at")

    assert found == list(reversed(naive(vera, lambda run: True)))


def test_people_see_the_links_of_a_page(world: dict[str, Any], root: User) -> None:
    page = as_person(root).get(f"{V1}/runs?page_size=7", HTTP_ACCEPT="text/html").content.decode()

    assert "Next" in page
    assert "cursor=" in page


# No machine reads so much text within a millisecond.
LONG = "lorem ipsum " * 400


@pytest.fixture
def _slow(settings: Settings, monkeypatch: pytest.MonkeyPatch, nightly: Workflow) -> None:
    """A search meets its deadline, and then reads a thousand runs."""
    settings.SEARCH_DEADLINE = 0.000001
    monkeypatch.setattr(run_pages, "SEARCHED", 1000)
    Run.objects.bulk_create(
        Run(
            workflow=nightly, dag_id="etl", dag_run_id=str(n), state="success", created_at=NOW + timedelta(seconds=n),
            note=LONG + ("zq" if n in {0, 1, 1700, 2500} else ""),
        )
        for n in range(3000)
    )  # fmt: skip


@pytest.mark.usefixtures("_slow")
def test_a_search_that_meets_its_deadline_says_so_and_goes_on_with_the_next_page(root: User) -> None:
    found = list(pages(as_person(root), "search=zq"))

    assert [[row["dag_run_id"] for row in page["results"]] for page in found] == [["2500"], ["1700"], ["1", "0"]]
    assert [page.get("partial") for page in found] == [True, True, None]
    assert [bool(page["next"]) for page in found] == [True, True, False]


@pytest.mark.usefixtures("_slow")
def test_a_search_back_in_time_and_one_from_the_oldest_on_go_on_too(root: User) -> None:
    client = as_person(root)
    *_, last = pages(client, "search=zq")

    back = list(
        pages(client, "search=zq&cursor=" + last["previous"].split("cursor=")[1].split("&")[0], towards="previous")
    )
    oldest = list(pages(client, "search=zq&ordering=created_at"))

    assert [row["dag_run_id"] for page in back for row in page["results"]] == ["1700", "2500"]
    assert [row["dag_run_id"] for page in oldest for row in page["results"]] == ["0", "1", "1700", "2500"]


@pytest.mark.usefixtures("_slow")
def test_a_page_that_is_full_is_not_partial(root: User) -> None:
    page = next(pages(as_person(root), "search=lorem", size=5))

    assert ([row["dag_run_id"] for row in page["results"]], "partial" in page) == (
        ["2999", "2998", "2997", "2996", "2995"], False,
    )  # fmt: skip


@pytest.mark.usefixtures("_slow")
def test_a_query_after_a_search_has_no_deadline(root: User) -> None:
    client = as_person(root)
    client.get(f"{V1}/runs?search=zq")

    assert Run.objects.filter(note__icontains="zq").count() == 4
