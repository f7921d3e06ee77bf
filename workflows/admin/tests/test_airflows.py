"""The pages of Airflows, and what other pages show as soon as there are several."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Role, User
from workflows import services
from workflows.admin.tests.pages import act, messages_of, new_run
from workflows.models import Airflow, Dag, Run, Workflow
from workflows.services.airflows import shown_way
from workflows.states import RunState

PAGE = "/admin/workflows/airflow"
OPTIONS = {"url": "https://airflow.example.com", "username": "svops", "password": "hush-1"}
FORM = {"is_active": "on", "auth": "password", **OPTIONS}


@pytest.fixture
def prod(root: User) -> Airflow:
    return services.create_airflow(actor=root, name="prod", options=OPTIONS | {"token_timeout": 3})


@pytest.fixture
def there(prod: Airflow, dag: Dag, root: User) -> Workflow:
    """A workflow over a DAG of the same dag_id in another Airflow."""
    of_prod = Dag.objects.create(airflow=prod, dag_id=dag.dag_id)
    return Workflow.objects.create(name="There", dag=of_prod, owner=root)


def save(client: Client, path: str, form: dict[str, Any]) -> tuple[int, dict[str, list[str]]]:
    answer = client.post(path, form)
    context = answer.context or {}
    return answer.status_code, dict(context["adminform"].form.errors) if "adminform" in context else {}


def test_an_airflow_is_added_on_a_form(operator: Client) -> None:
    assert save(operator, f"{PAGE}/add/", FORM | {"name": "prod", "headers": '{"X-Team": "data"}'}) == (302, {})

    row = Airflow.named("prod")
    assert shown_way(row) == (OPTIONS["url"], "password", {"username": "svops"}, [
        "headers", "password",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"name": "a b"}, {"name"}),
        ({"name": "default"}, {"name"}),
        ({"url": "airflow"}, {"url"}),
        ({"password": ""}, {"password"}),
        ({"auth": "token"}, {"token"}),
        ({"auth": "google"}, {"auth"}),
        ({"token_timeout": "soon"}, {"token_timeout"}),
        ({"headers": "{"}, {"headers"}),
        ({"headers": '{"Cookie": "x"}'}, {"headers"}),
    ],
)
def test_a_wrong_option_is_shown_at_its_field(operator: Client, change: dict[str, str], errors: set[str]) -> None:
    status, shown = save(operator, f"{PAGE}/add/", FORM | {"name": "prod"} | change)

    assert (status, set(shown)) == (200, errors)
    assert not Airflow.objects.filter(name="prod").exists()


def test_the_form_of_a_change_shows_no_secret_and_keeps_what_is_empty(operator: Client, prod: Airflow) -> None:
    page = operator.get(f"{PAGE}/{prod.pk}/change/").content.decode()
    assert "hush" not in page
    assert prod.secrets not in page
    assert OPTIONS["url"] in page

    form = FORM | {"password": "", "username": "other", "token_timeout": ""}
    assert save(operator, f"{PAGE}/{prod.pk}/change/", form) == (302, {})
    prod.refresh_from_db()
    assert (shown_way(prod).options, shown_way(prod).secrets) == ({"username": "other"}, ["password"])


def test_a_secret_is_taken_away_by_its_box(operator: Client, prod: Airflow, root: User) -> None:
    services.change_airflow(actor=root, airflow=prod, options={"ingest_secret": "hush-2"})

    assert save(operator, f"{PAGE}/{prod.pk}/change/", FORM | {"password": "", "cleared": ["ingest_secret"]})[0] == 302
    prod.refresh_from_db()
    assert shown_way(prod).secrets == ["password"]


def test_the_default_airflow_is_shown_and_not_edited(operator: Client, prod: Airflow) -> None:
    row = Airflow.default()

    page = operator.get(f"{PAGE}/{row.pk}/change/")

    assert page.status_code == 200
    assert 'name="url"' not in page.content.decode()
    assert operator.post(f"{PAGE}/{row.pk}/change/", FORM).status_code == 403
    assert operator.post(f"{PAGE}/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_airflows_are_drained_and_undrained(operator: Client, prod: Airflow) -> None:
    act(operator, "airflow", "drain", prod)
    prod.refresh_from_db()
    assert prod.is_drained
    assert "drained" in operator.get(f"{PAGE}/").content.decode()

    act(operator, "airflow", "undrain", prod)
    prod.refresh_from_db()
    assert not prod.is_drained


def test_an_airflow_in_use_is_not_deleted(operator: Client, there: Workflow, prod: Airflow) -> None:
    answer = operator.post(f"{PAGE}/{prod.pk}/delete/", {"post": "yes"}, follow=True)

    assert [text for _, text in messages_of(answer)] == [
        "Not deleted. 1 workflows, deleted ones among them, and 0 runs are on it. Move the workflows, or set is_active "
        "to false."
    ]
    Workflow.objects.all().delete()
    operator.post(f"{PAGE}/{prod.pk}/delete/", {"post": "yes"})
    assert not Airflow.objects.filter(name="prod").exists()


def test_only_admins_change_airflows(prod: Airflow) -> None:
    clerk = User.objects.create_user("clerk", "clerk@example.com", role=Role.USER)
    client = Client()
    client.force_login(clerk)

    for path in ("", "add/", f"{prod.pk}/change/", f"{prod.pk}/delete/"):
        assert client.post(f"{PAGE}/{path}", FORM).status_code in {302, 403}
    assert Airflow.objects.count() == 2 - (not Airflow.objects.filter(name="default").exists())


# --- Other pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["dag", "workflow", "run", "airflowcommand", "dagfileerror"])
def test_lists_name_the_airflow_only_where_there_are_several(
    operator: Client, workflow: Workflow, root: User, model: str
) -> None:
    Airflow.default()
    new_run(workflow)

    def named() -> bool:
        changelist = operator.get(f"/admin/workflows/{model}/").context["cl"]
        return "of_airflow" in changelist.list_display and "Airflow" in {each.title for each in changelist.filter_specs}

    assert not named()
    services.create_airflow(actor=root, name="prod", options=OPTIONS)
    assert named()
    assert operator.get(f"/admin/workflows/{model}/?airflow=prod").status_code == 200


def test_lists_are_filtered_by_airflow(operator: Client, workflow: Workflow, there: Workflow) -> None:
    run = new_run(there)
    Run.objects.filter(pk=run.pk).update(airflow="prod")
    new_run(workflow)

    for model, expected in (("dag", there.dag), ("workflow", there), ("run", run)):
        shown = operator.get(f"/admin/workflows/{model}/?airflow=prod").context["cl"].result_list
        assert [row.pk for row in shown] == [expected.pk]


def test_each_run_is_as_stale_as_its_own_airflow(operator: Client, workflow: Workflow, there: Workflow) -> None:
    here, elsewhere = new_run(workflow, RunState.RUNNING), new_run(there, RunState.RUNNING)
    Run.objects.filter(pk=elsewhere.pk).update(airflow="prod")
    now = timezone.now()
    Airflow.objects.update(looked_at=now)

    def stale() -> dict[Any, bool]:
        return {row.pk: bool(row.stale) for row in operator.get("/admin/workflows/run/").context["cl"].result_list}

    def warnings() -> list[str]:
        return [airflow.name for airflow in operator.get("/admin/workflows/run/").context["stale_airflows"]]

    assert (stale(), warnings()) == ({here.pk: False, elsewhere.pk: False}, [])
    Airflow.objects.filter(name="prod").update(looked_at=now - timedelta(hours=1))
    assert (stale(), warnings()) == ({here.pk: False, elsewhere.pk: True}, ["prod"])
    Airflow.objects.filter(name="default").update(looked_at=now - timedelta(hours=1))
    assert (stale(), warnings()) == ({here.pk: True, elsewhere.pk: True}, ["default", "prod"])
    Airflow.objects.update(looked_at=now)
    Airflow.objects.filter(name="prod").update(hidden_dags=[workflow.dag.dag_id])
    assert stale() == {here.pk: False, elsewhere.pk: True}


def test_the_page_of_a_run_links_the_dag_of_its_own_airflow(
    operator: Client, workflow: Workflow, there: Workflow
) -> None:
    run = new_run(there)
    Run.objects.filter(pk=run.pk).update(airflow="prod")

    page = operator.get(f"/admin/workflows/run/{run.pk}/change/").content.decode()

    assert f'<a href="/admin/workflows/dag/{there.dag_id}/change/">nightly_etl in prod</a>' in page
    assert f"/admin/workflows/dag/{workflow.dag_id}/change/" not in page


def test_a_sync_is_of_every_active_airflow(operator: Client, prod: Airflow, root: User) -> None:
    services.create_airflow(actor=root, name="idle", options=OPTIONS, is_active=False)
    Airflow.objects.filter(name="prod").update(options={"url": "http://127.0.0.1:9", "username": "a"})

    said = [text for _, text in messages_of(operator.post("/admin/workflows/dag/sync/", follow=True))]

    assert [text.partition(": The DAGs were not synced.")[0] for text in said] == ["default", "prod"]


@pytest.mark.parametrize("name", ["default", "prod"])
def test_links_to_runs_lead_to_those_of_one_airflow(
    operator: Client, workflow: Workflow, there: Workflow, name: str
) -> None:
    runs = {"default": new_run(workflow), "prod": new_run(there)}
    Run.objects.filter(pk=runs["prod"].pk).update(airflow="prod")
    airflow, dag = Airflow.named(name), Dag.objects.of(name).get()

    for page in (f"{PAGE}/{airflow.pk}/change/", f"/admin/workflows/dag/{dag.pk}/change/"):
        [link] = re.findall(r'href="(/admin/workflows/run/\?[^"]+)"', operator.get(page).content.decode())
        answer = operator.get(html.unescape(link))
        assert answer.status_code == 200
        assert [row.pk for row in answer.context["cl"].result_list] == [runs[name].pk]
