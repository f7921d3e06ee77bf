"""What holds for every endpoint: slashes, pages for browsers, the number of queries, the description."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from workflows.api.tests.asking import V1, AsUser, runs_of
from workflows.conftest import bearer, token_of
from workflows.models import Airflow, Dag, Event, Visibility, Workflow
from workflows.tests.stage import NOW, StagedAirflow, new_run

pytestmark = pytest.mark.django_db

ON_SQLITE = connection.vendor == "sqlite"


def test_a_slash_at_the_end_of_a_path_makes_no_difference(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)

    for path in (f"{V1}/workflows", f"{V1}/workflows/{nightly.pk}", runs_of(nightly), f"{V1}/dags", f"{V1}/runs"):
        assert client.get(f"{path}/").json() == client.get(path).json()
    assert client.post(f"{runs_of(nightly)}/", {}).status_code == 201


@pytest.mark.parametrize("path", ["dags", "dags/etl", "workflows", "workflows/{id}", "workflows/{id}/runs", "runs"])
def test_people_see_browsable_pages(as_user: AsUser, ada: User, nightly: Workflow, path: str) -> None:
    new_run(nightly)

    answer = as_user(ada).get(f"{V1}/{path.format(id=nightly.pk)}", HTTP_ACCEPT="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"breadcrumb" in answer.content


def test_a_browsable_page_names_no_other_users(as_user: AsUser, vera: User, nightly: Workflow) -> None:
    User.objects.create_user("xanthippe", "x@example.com")

    page = as_user(vera).get(f"{V1}/workflows", HTTP_ACCEPT="text/html").content

    assert b"xanthippe" not in page


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("dags", 3),  # the token, the count, the page
        ("workflows", 3),
        ("workflows/{id}/runs", 4),  # the token, the workflow, the page, Airflow's state
        ("runs", 3 if ON_SQLITE else 5),  # PostgreSQL is asked for the newest runs first, then for what may be seen
        ("workflows/{id}/runs/{run}/tasks", 6),
        ("workflows/{id}/runs/{run}/events", 4),
    ],
)
def test_a_list_of_any_length_costs_the_same_number_of_queries(
    ada: User,
    eve: User,
    etl: Dag,
    nightly: Workflow,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
) -> None:
    Airflow.default()
    run = new_run(nightly)
    client = bearer(token_of(ada))
    url = f"{V1}/{path.format(id=nightly.pk, run=run.pk)}"

    def more(n: int) -> None:
        Dag.objects.create(dag_id=f"dag{n}")
        Workflow.objects.create(name=f"w{n}", dag=etl, owner=eve, visibility=Visibility.INTERNAL)
        new_run(nightly, user=eve if n % 2 else ada)
        run.tasks.create(task_id=f"t{n}")
        Event.objects.create(run=run, workflow=nightly, seq=n, position=n, type="task.started", timestamp=NOW)

    more(1)
    with django_assert_num_queries(queries):
        client.get(url)
    for n in range(2, 12):
        more(n)
    with django_assert_num_queries(queries):
        client.get(url)


def test_the_openapi_description_is_made_without_a_warning() -> None:
    out = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out, stderr=out)

    assert "openapi: 3." in out.getvalue()
