"""The operators' pages: what they show, what they cost, and what they refuse."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Model
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat import models as beat
from pytest_django import Settings

from accounts.models import ApiKey, AuditEntry, AuditHead, Identity, Role, SignIn, Ticket, User
from svops.local.ports import free_port
from workflows import upstream
from workflows.models import (
    AirflowCommand,
    AirflowState,
    CommandKind,
    Dag,
    Event,
    Grant,
    LogHead,
    Run,
    TaskInstance,
    TriggerType,
    Visibility,
    Workflow,
)
from workflows.states import RunState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = {"type": "object", "properties": {"processing_time": {"type": "integer", "minimum": 1}}, "required": []}


@pytest.fixture(autouse=True)
def _no_airflow(settings: Settings, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nobody listens where Airflow should be, unless a test asks for the real one."""
    if "airflow_server" not in request.fixturenames:
        settings.AIRFLOW_URL = f"http://127.0.0.1:{free_port()}"
    upstream.airflow.cache_clear()
    yield
    upstream.airflow.cache_clear()


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_user("root", "root@example.com", role=Role.ADMIN)


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def dag(db: None) -> Dag:
    tasks = [
        {"task_id": "extract", "operator": "PythonOperator", "downstream_task_ids": ["load"]},
        {"task_id": "load", "operator": "PythonOperator", "downstream_task_ids": []},
    ]
    return Dag.objects.create(dag_id="nightly_etl", tags=["nightly"], params_schema=SCHEMA, tasks=tasks, synced_at=NOW)


@pytest.fixture
def workflow(dag: Dag, root: User) -> Workflow:
    return Workflow.objects.create(name="Nightly ETL", dag=dag, owner=root)


def new_run(workflow: Workflow, state: RunState = RunState.RUNNING, **fields: Any) -> Run:
    run_id = uuid.uuid4()
    known = {"queued_at": NOW, "started_at": NOW} if state != RunState.PENDING else {}
    common = {"dag_id": workflow.dag.dag_id, "dag_run_id": f"svops__{run_id}", "created_at": NOW}
    return Run.objects.create(workflow=workflow, state=state, **({"id": run_id} | known | common | fields))


def populate(workflow: Workflow, n: int) -> None:
    """`n` rows more in each list, each row with relations of its own."""
    for _ in range(n):
        i = Run.objects.count()
        user = User.objects.create_user(f"user{i}", f"user{i}@example.com")
        dag = Dag.objects.create(dag_id=f"dag{i}")
        Workflow.objects.create(name=f"workflow{i}", dag=dag, owner=user)
        run = new_run(workflow, user=user, task_id=i, dataset_id="d", event_count=1)
        TaskInstance.objects.create(run=run, task_id="extract", state="running", started_at=NOW)
        Event.objects.create(
            run=run, workflow=workflow, user=user, seq=1, position=i + 1, type="workflow.started", timestamp=NOW
        )
        AirflowCommand.objects.create(run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW)


def told(response: Any) -> list[tuple[int, str]]:
    return [(message.level, message.message) for message in response.context["messages"]]


def act(operator: Client, model: str, action: str, *objects: Model, **more: str) -> list[tuple[int, str]]:
    data = {"action": action, "_selected_action": [str(obj.pk) for obj in objects], **more}
    return told(operator.post(f"/admin/workflows/{model}/", data, follow=True))


def everything() -> list[dict[str, Any]]:
    """All that a refused action must leave as it was."""
    models: list[type[Model]] = [Workflow, Run, Event, AirflowCommand]
    return [row for model in models for row in model._default_manager.order_by("pk").values()]


# --- Every model ------------------------------------------------------------------------------------------


def one_of_each(workflow: Workflow, root: User) -> None:
    populate(workflow, 1)
    LogHead.objects.get_or_create(pk=1)
    AirflowState.current()
    Group.objects.create(name="on call")
    beat.CrontabSchedule.objects.create()
    beat.SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=1)
    beat.ClockedSchedule.objects.create(clocked_time=NOW)
    Identity.objects.create(user=root, issuer="https://id.example.com", subject="1")
    SignIn.objects.create(user=root, created_at=NOW, refreshed_at=NOW, expires_at=NOW)
    ApiKey.objects.create(user=root, name="import", prefix="9f2c41d0", created_at=NOW)
    Ticket.objects.create(user=root, workflow_id=1, run_id=uuid.uuid4(), created_at=NOW, expires_at=NOW)
    AuditHead.objects.get_or_create(pk=1)
    AuditEntry.objects.create(at=NOW, via="command", action="user.created", object_type="accounts.user", object_id="1")


# What comes after this app looks after its own pages: nothing here may know of it.
REGISTERED = sorted(
    (model for model in admin.site._registry if model._meta.app_label != "notifications"),
    key=lambda model: model._meta.label,
)


def test_every_model_of_ours_is_in_the_admin() -> None:
    ours = {"Dag", "Workflow", "Run", "TaskInstance", "Event", "LogHead", "AirflowCommand", "AirflowState"}
    assert {model.__name__ for model in REGISTERED if model._meta.app_label == "workflows"} == ours


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_the_pages_of_every_registered_model_open(
    operator: Client, workflow: Workflow, root: User, model: type[Model]
) -> None:
    one_of_each(workflow, root)
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}"
    row = model._default_manager.first()
    assert row is not None, "nothing to open: give one_of_each one of these"
    pages = admin.site._registry[model]

    assert operator.get(f"{base}/?q=1").status_code == 200
    assert operator.get(f"{base}/{row.pk}/change/").status_code == 200
    may_add = pages.has_add_permission(_request(root))
    assert operator.get(f"{base}/add/").status_code == (200 if may_add else 403)


def _request(user: User) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    return request


READ_ONLY = ["dag", "run", "taskinstance", "event", "loghead", "airflowcommand", "airflowstate"]


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_the_services_move_can_not_be_added_changed_or_deleted(
    operator: Client, workflow: Workflow, root: User, name: str
) -> None:
    one_of_each(workflow, root)
    model = next(model for model in REGISTERED if model._meta.model_name == name)
    row = model._default_manager.get(pk=model._default_manager.values_list("pk", flat=True)[0])
    before = everything()

    for page in ["add/", f"{row.pk}/change/", f"{row.pk}/delete/"]:
        answer = operator.post(f"/admin/workflows/{name}/{page}", {"post": "yes", "state": "success"})
        assert answer.status_code == 403, page

    assert everything() == before
    assert "delete_selected" not in operator.get(f"/admin/workflows/{name}/").content.decode()


@pytest.mark.parametrize("name", ["dag", "workflow", "run", "taskinstance", "event", "airflowcommand"])
def test_a_list_of_30_costs_as_many_queries_as_a_list_of_1(operator: Client, workflow: Workflow, name: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(f"/admin/workflows/{name}/").status_code == 200
        return len(captured)

    AirflowState.current()
    populate(workflow, 1)
    of_one = queries()
    populate(workflow, 29)

    assert queries() == of_one
    assert len(operator.get(f"/admin/workflows/{name}/").context["cl"].result_list) >= 30


@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
def test_only_admins_come_in(workflow: Workflow, role: Role) -> None:
    run, client = new_run(workflow), Client()
    client.force_login(User.objects.create_user("x", role=role))
    before = everything()

    assert client.get("/admin/workflows/run/").status_code == 302
    assert client.post(f"/admin/workflows/run/{run.pk}/act/stop/").status_code == 302
    assert client.post("/admin/workflows/dag/sync/").status_code == 302
    assert everything() == before


# --- Finding ----------------------------------------------------------------------------------------------


def found(operator: Client, model: str, query: str) -> list[Any]:
    response = operator.get(f"/admin/workflows/{model}/?{query}")
    assert response.status_code == 200, response
    return list(response.context["cl"].result_list)


@pytest.mark.parametrize(
    "term",
    ["{id}", "{start_of_id}", "{dag_run_id}", "other_dag", "Other", "ada", "ref-77", "4242", "by hand"],
)
def test_a_run_is_found_by_each_thing_an_operator_may_know_of_it(
    operator: Client, workflow: Workflow, root: User, term: str
) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")
    other = Workflow.objects.create(name="Other", dag=Dag.objects.create(dag_id="other_dag"), owner=ada)
    common: dict[str, Any] = {"user": ada, "task_id": 42424242, "dataset_id": "ref-77", "note": "by hand"}
    new_run(other, id=uuid.UUID("f" * 32), dag_run_id="manual__1", **common)
    new_run(workflow, id=uuid.UUID("e" * 32), dag_run_id="svops__e", user=root)

    known = {"id": str(uuid.UUID("f" * 32)), "start_of_id": "ffffffff", "dag_run_id": "manual__1"}
    assert [run.dag_run_id for run in found(operator, "run", f"q={term.format(**known)}")] == ["manual__1"]


def test_runs_are_narrowed_by_state_workflow_and_whether_they_are_open(operator: Client, workflow: Workflow) -> None:
    empty = Workflow.objects.create(name="Empty", dag=workflow.dag, owner=workflow.owner)
    running, failed = new_run(workflow), new_run(workflow, RunState.FAILED)

    assert found(operator, "run", "progress=open") == [running]
    assert found(operator, "run", "progress=ended") == [failed]
    assert found(operator, "run", "state__exact=failed") == [failed]
    assert found(operator, "run", f"workflow__id__exact={empty.pk}") == []
    assert found(operator, "run", "dag_id=nightly_etl&state__exact=running") == [running]


def test_deleted_workflows_are_listed_only_when_asked_for(operator: Client, workflow: Workflow, root: User) -> None:
    gone = Workflow.objects.create(name="Gone", dag=workflow.dag, owner=root, deleted_at=NOW)

    assert found(operator, "workflow", "") == [workflow]
    assert found(operator, "workflow", "life=deleted") == [gone]
    assert {row.pk for row in found(operator, "workflow", "life=all")} == {gone.pk, workflow.pk}


def test_commands_are_narrowed_by_what_has_become_of_them(operator: Client, workflow: Workflow) -> None:
    def command(**fields: Any) -> AirflowCommand:
        run = new_run(workflow)
        return AirflowCommand.objects.create(run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW, **fields)

    owed, failing = command(), command(attempts=3, last_error="no answer")
    done, given_up = command(finished_at=NOW), command(finished_at=NOW, last_error="refused")

    assert found(operator, "airflowcommand", "status=owed") == [failing, owed]
    assert found(operator, "airflowcommand", "status=failing") == [failing]
    assert found(operator, "airflowcommand", "status=done") == [done]
    assert found(operator, "airflowcommand", "status=given_up") == [given_up]


def test_tasks_and_events_are_narrowed_by_state_type_and_run(operator: Client, workflow: Workflow) -> None:
    populate(workflow, 2)
    task, event = TaskInstance.objects.latest("id"), Event.objects.latest("id")
    TaskInstance.objects.filter(pk=task.pk).update(state="")

    assert found(operator, "taskinstance", "state=waiting") == [task]
    assert found(operator, "taskinstance", f"run__id__exact={task.run_id}") == [task]
    assert found(operator, "event", f"run__id__exact={event.run_id}&type=workflow.started") == [event]
    assert found(operator, "event", "type=workflow.failed") == []


# --- Showing ----------------------------------------------------------------------------------------------


def test_the_page_of_a_run_shows_its_tasks_its_log_and_what_is_owed(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, event_count=1)
    TaskInstance.objects.create(run=run, task_id="extract", state="success", try_number=1, operator="PythonOperator")
    Event.objects.create(
        run=run, seq=1, type="task.completed", task_id="extract", timestamp=NOW, data={"map_index": -1}
    )
    AirflowCommand.objects.create(
        run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW, attempts=7, last_error="no <answer>"
    )

    tables = operator.get(f"/admin/workflows/run/{run.pk}/change/").context["run_tables"]

    tasks, log, commands = (table["rows"] for table in tables)
    assert [row[2:4] for row in tasks] == [["1 of 1", "PythonOperator"]]
    assert [(row[0], row[1], row[3], row[4]) for row in log] == [(1, NOW, "extract", '{"map_index": -1}')]
    assert [(row[2], row[4]) for row in commands] == [("7", "no <answer>")]


def test_what_others_wrote_is_escaped_on_the_page_of_a_run(operator: Client, workflow: Workflow) -> None:
    evil = "<script>alert(1)</script>"
    run = new_run(workflow, note=evil, state_reason=evil, task_id=evil, parameters={"p": evil})
    Event.objects.create(run=run, seq=1, type="task.failed", task_id=evil, timestamp=NOW, data={"p": evil})
    TaskInstance.objects.create(run=run, task_id=evil, state=evil[:30])

    for page in [f"run/{run.pk}/change/", "run/", "event/", "taskinstance/"]:
        assert evil not in operator.get(f"/admin/workflows/{page}").content.decode(), page


def see_airflow(*, ago: timedelta) -> None:
    AirflowState.current()
    AirflowState.objects.update(reachable=True, looked_at=timezone.now() - ago)


def test_open_runs_are_stale_while_airflow_can_not_be_seen(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow)
    see_airflow(ago=timedelta(0))
    fresh = [operator.get(page).content.decode() for page in _pages_of(run)]
    see_airflow(ago=timedelta(minutes=5))
    stale = [operator.get(page).content.decode() for page in _pages_of(run)]

    assert all(">stale<" not in page and "airflow-warning" not in page for page in fresh)
    assert all(">stale<" in page and "airflow-warning" in page for page in stale)


def test_a_run_that_has_ended_is_not_stale(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, RunState.SUCCESS)
    see_airflow(ago=timedelta(minutes=5))

    assert all(">stale<" not in operator.get(page).content.decode() for page in _pages_of(run))


def _pages_of(run: Run) -> list[str]:
    return ["/admin/workflows/run/", f"/admin/workflows/run/{run.pk}/change/"]


@pytest.mark.parametrize(
    ("state", "known", "buttons"),
    [
        (RunState.PENDING, False, ["stop"]),
        (RunState.RUNNING, True, ["stop"]),
        (RunState.STOPPING, True, []),
        (RunState.FAILED, True, ["retry_failed", "retry_all"]),
        (RunState.STOPPED, True, ["retry_failed", "retry_all"]),
        (RunState.SUCCESS, True, ["retry_all"]),
        (RunState.STOPPED, False, []),
    ],
)
def test_a_run_offers_the_actions_that_fit_its_state(
    operator: Client, workflow: Workflow, state: RunState, known: bool, buttons: list[str]
) -> None:
    run = new_run(workflow, state, queued_at=NOW if known else None)

    offered = operator.get(f"/admin/workflows/run/{run.pk}/change/").context["run_actions"]

    assert [url for url, _ in offered] == [f"/admin/workflows/run/{run.pk}/act/{name}/" for name in buttons]


# --- Stop and retry ---------------------------------------------------------------------------------------


def test_stopping_a_run_that_airflow_was_never_asked_for_ends_it_at_once(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, RunState.PENDING)
    AirflowCommand.objects.create(run=run, kind=CommandKind.TRIGGER, created_at=NOW, due_at=NOW)

    assert act(operator, "run", "stop", run) == [(messages.SUCCESS, f"Run {run}: it is stopped now.")]

    run.refresh_from_db()
    assert (run.state, run.state_reason) == ("stopped", "stopped by root")


@pytest.mark.parametrize(
    ("action", "state", "why"),
    [
        ("stop", RunState.SUCCESS, "A run that is success can not be stopped."),
        ("stop", RunState.STOPPING, "A run that is stopping can not be stopped."),
        ("retry_failed", RunState.RUNNING, "A run that is running can not be retried."),
        (
            "retry_failed",
            RunState.SUCCESS,
            "A run that is success can not be retried with mode failed: nothing has failed.",
        ),
        ("retry_all", RunState.QUEUED, "A run that is queued can not be retried."),
    ],
)
def test_an_action_that_does_not_fit_the_state_is_a_warning_and_changes_nothing(
    operator: Client, workflow: Workflow, action: str, state: RunState, why: str
) -> None:
    run = new_run(workflow, state)
    before = everything()

    assert act(operator, "run", action, run) == [(messages.WARNING, f"Run {run}: {why}")]
    assert everything() == before


def test_a_refusal_of_one_run_stops_no_other(operator: Client, workflow: Workflow) -> None:
    AirflowState.current()
    AirflowState.objects.update(reachable=False, last_error="it is down")
    ended, running = new_run(workflow, RunState.FAILED), new_run(workflow)

    said = dict(text.split(": ", 1)[::-1] for _, text in act(operator, "run", "stop", ended, running))

    owed = "it is stopping here, but Airflow is yet to be told: it is down. It is tried again."
    assert said == {"A run that is failed can not be stopped.": f"Run {ended}", owed: f"Run {running}"}


@pytest.mark.parametrize(
    ("action", "before", "after", "kind", "arguments"),
    [
        ("stop", RunState.RUNNING, RunState.STOPPING, "stop", {}),
        (
            "retry_failed",
            RunState.FAILED,
            RunState.QUEUED,
            "clear",
            {"task_ids": None, "only_failed": True, "include_downstream": False},
        ),
        (
            "retry_all",
            RunState.SUCCESS,
            RunState.QUEUED,
            "clear",
            {"task_ids": None, "only_failed": False, "include_downstream": False},
        ),
    ],
)
def test_while_airflow_is_down_an_action_is_owed_to_it_and_that_is_an_error_message(
    operator: Client,
    workflow: Workflow,
    action: str,
    before: RunState,
    after: RunState,
    kind: str,
    arguments: dict[str, Any],
) -> None:
    run = new_run(workflow, before)

    response = operator.post(f"/admin/workflows/run/{run.pk}/act/{action}/", follow=True)

    [(level, text)] = told(response)
    assert level == messages.ERROR
    assert text.startswith(f"Run {run}: it is {after} here, but Airflow is yet to be told: ")
    assert response.redirect_chain == [(f"/admin/workflows/run/{run.pk}/change/", 302)]
    assert Run.objects.get().state == after
    owed = AirflowCommand.objects.get()
    assert (owed.kind, owed.arguments, owed.attempts, owed.finished_at) == (kind, arguments, 1, None)


@pytest.mark.parametrize("action", ["state", "delete", "each"])
def test_an_action_that_does_not_exist_is_refused(operator: Client, workflow: Workflow, action: str) -> None:
    run = new_run(workflow)

    assert operator.post(f"/admin/workflows/run/{run.pk}/act/{action}/").status_code == 403


def test_looking_at_an_action_does_not_carry_it_out(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow)

    assert operator.get(f"/admin/workflows/run/{run.pk}/act/stop/").status_code == 405
    assert operator.get("/admin/workflows/dag/sync/").status_code == 405
    assert Run.objects.get().state == RunState.RUNNING


def test_more_runs_than_an_operator_can_wait_for_are_refused(operator: Client, workflow: Workflow) -> None:
    runs = [new_run(workflow) for _ in range(101)]

    assert act(operator, "run", "stop", *runs) == [(messages.ERROR, "Choose at most 100 at once; nothing was done.")]
    assert not Run.objects.exclude(state=RunState.RUNNING).exists()


# --- Workflows --------------------------------------------------------------------------------------------


@pytest.fixture
def form(dag: Dag, root: User) -> dict[str, Any]:
    return {
        "name": "Reports",
        "description": "Every morning",
        "dag": dag.pk,
        "owner": root.pk,
        "is_active": "on",
        "visibility": "private",
        "default_parameters": '{"processing_time": 5}',
        "grants-TOTAL_FORMS": "0",
        "grants-INITIAL_FORMS": "0",
    }


def test_a_grant_is_given_and_taken_back_on_the_page_of_a_workflow(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")
    page = f"/admin/workflows/workflow/{workflow.pk}/change/"
    row = {"grants-0-user": ada.pk, "grants-0-level": "run", "grants-0-workflow": workflow.pk}

    operator.post(page, form | row | {"grants-TOTAL_FORMS": "1"})
    given = Grant.objects.get()
    assert (given.workflow, given.user, given.level) == (workflow, ada, "run")

    kept = {"grants-TOTAL_FORMS": "1", "grants-INITIAL_FORMS": "1", "grants-0-id": given.pk, "grants-0-DELETE": "on"}
    operator.post(page, form | row | kept)
    assert not Grant.objects.exists()


def test_a_new_workflow_is_offered_to_the_operator_as_its_owner(operator: Client, root: User) -> None:
    page = operator.get("/admin/workflows/workflow/add/")

    assert page.context["adminform"].form.initial["owner"] == root.pk


def test_a_workflow_is_added(operator: Client, form: dict[str, Any], dag: Dag, root: User) -> None:
    response = operator.post("/admin/workflows/workflow/add/", form, follow=True)

    made = Workflow.objects.get()
    assert [level for level, _ in told(response)] == [messages.SUCCESS]
    assert (made.name, made.description, made.dag, made.owner) == ("Reports", "Every morning", dag, root)
    assert (made.is_active, made.visibility, made.default_parameters) == (
        True,
        Visibility.PRIVATE,
        {"processing_time": 5},
    )
    assert LogEntry.objects.get().object_id == str(made.pk)


def test_a_workflow_is_changed(operator: Client, form: dict[str, Any], workflow: Workflow) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")

    response = operator.post(f"/admin/workflows/workflow/{workflow.pk}/change/", form | {"owner": ada.pk}, follow=True)

    changed = Workflow.objects.get()
    assert [level for level, _ in told(response)] == [messages.SUCCESS]
    assert (changed.pk, changed.name, changed.owner) == (workflow.pk, "Reports", ada)
    assert changed.default_parameters == {"processing_time": 5}


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        (
            {"default_parameters": '{"processing_time": 0}'},
            {"default_parameters": ["processing_time: 0 is less than the minimum of 1"]},
        ),
        (
            {"default_parameters": "[1]"},
            {"default_parameters": ['Expected a JSON object, such as {"processing_time": 30}.']},
        ),
        (
            {"default_parameters": '{"processing_time": NaN}'},
            {"default_parameters": ["NaN and Infinity are not JSON."]},
        ),
        ({"default_parameters": '{"p": "\\u0000"}'}, {"default_parameters": ["Null characters are not allowed."]}),
        ({"default_parameters": "{"}, {"default_parameters": ["Enter a valid JSON."]}),
        ({"name": "Nightly ETL"}, {"name": ["You already have a workflow of this name."]}),
        ({"name": ""}, {"name": ["This field is required."]}),
        (
            {"dag": "0"},
            {"dag": ["Select a valid choice. That choice is not one of the available choices."]},
        ),
    ],
)
@pytest.mark.parametrize("page", ["add/", "{other}/change/"])
def test_what_the_service_refuses_is_shown_at_the_field_and_nothing_is_saved(
    operator: Client,
    form: dict[str, Any],
    workflow: Workflow,
    page: str,
    wrong: dict[str, str],
    errors: dict[str, list[str]],
) -> None:
    other = Workflow.objects.create(name="Other", dag=workflow.dag, owner=workflow.owner)
    before = everything()

    response = operator.post(f"/admin/workflows/workflow/{page.format(other=other.pk)}", form | wrong)

    assert response.status_code == 200
    assert response.context["adminform"].form.errors == errors
    assert everything() == before
    assert not LogEntry.objects.exists()


def test_a_workflow_can_not_be_put_on_a_dag_that_airflow_has_no_more_but_one_that_is_may_be_changed(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    Dag.objects.update(is_present=False)

    added = operator.post("/admin/workflows/workflow/add/", form)
    changed = operator.post(f"/admin/workflows/workflow/{workflow.pk}/change/", form)

    assert list(added.context["adminform"].form.errors) == ["dag"]
    assert changed.status_code == 302
    assert Workflow.objects.get().name == "Reports"


def test_a_form_offers_only_dags_that_airflow_has(operator: Client, dag: Dag) -> None:
    Dag.objects.create(dag_id="gone", is_present=False)
    query = "app_label=workflows&model_name=workflow&field_name=dag"

    offered = operator.get(f"/admin/autocomplete/?{query}").json()["results"]

    assert offered == [{"id": str(dag.pk), "text": "nightly_etl"}]


def test_a_deleted_workflow_keeps_its_runs_and_can_be_looked_at_but_not_changed(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    new_run(workflow, RunState.SUCCESS)
    page = f"/admin/workflows/workflow/{workflow.pk}"
    assert "its runs" not in operator.get(f"{page}/delete/").content.decode()

    response = operator.post(f"{page}/delete/", {"post": "yes"}, follow=True)

    assert [level for level, _ in told(response)] == [messages.SUCCESS]
    assert Workflow.objects.get().deleted_at is not None
    assert Run.objects.count() == 1
    assert operator.get(f"{page}/change/").status_code == 200
    assert operator.post(f"{page}/change/", form).status_code == 403
    assert operator.post(f"{page}/delete/", {"post": "yes"}).status_code == 403


def test_a_workflow_with_open_runs_is_not_deleted_and_the_reason_is_a_message(
    operator: Client, workflow: Workflow
) -> None:
    new_run(workflow)
    before = everything()

    response = operator.post(f"/admin/workflows/workflow/{workflow.pk}/delete/", {"post": "yes"}, follow=True)

    why = "1 of its runs have not ended: stop them first."
    assert told(response) == [(messages.WARNING, f"Not deleted. {why}")]
    assert act(operator, "workflow", "delete_selected", workflow, post="yes") == [
        (messages.WARNING, f"Workflow Nightly ETL: {why}")
    ]
    assert everything() == before
    assert not LogEntry.objects.exists()


def test_deleting_selected_workflows_asks_first(operator: Client, workflow: Workflow) -> None:
    asked = operator.post(
        "/admin/workflows/workflow/", {"action": "delete_selected", "_selected_action": [workflow.pk]}
    )
    assert asked.status_code == 200
    assert Workflow.objects.get().deleted_at is None

    said = act(operator, "workflow", "delete_selected", workflow, post="yes")

    assert said == [(messages.SUCCESS, "Workflow Nightly ETL: deleted; its runs are kept")]
    assert Workflow.objects.get().deleted_at is not None


def test_the_action_trigger_starts_a_run_with_the_default_parameters(
    operator: Client, workflow: Workflow, root: User
) -> None:
    Workflow.objects.update(default_parameters={"processing_time": 3})

    [(level, text)] = act(operator, "workflow", "trigger", workflow)

    run = Run.objects.get()
    assert (level, text) == (messages.SUCCESS, f"Workflow Nightly ETL: triggered, {run} is pending")
    assert (run.trigger_type, run.user, run.parameters) == (TriggerType.ADMIN, root, {"processing_time": 3})


def test_a_workflow_that_can_not_be_triggered_is_a_warning(operator: Client, workflow: Workflow) -> None:
    Workflow.objects.update(is_active=False)

    assert act(operator, "workflow", "trigger", workflow) == [
        (messages.WARNING, "Workflow Nightly ETL: The workflow is not active: set is_active to true first.")
    ]
    assert not Run.objects.exists()


def test_a_workflow_whose_defaults_are_not_enough_names_what_is_missing(operator: Client, workflow: Workflow) -> None:
    Dag.objects.update(params_schema=SCHEMA | {"required": ["processing_time"]})

    assert act(operator, "workflow", "trigger", workflow) == [
        (
            messages.ERROR,
            "Workflow Nightly ETL: The parameters do not fit the DAG. "
            "parameters.processing_time: This parameter is required.",
        )
    ]
    assert not Run.objects.exists()


# --- Airflow ----------------------------------------------------------------------------------------------


def test_a_sync_while_airflow_is_down_is_an_error_message(operator: Client, dag: Dag) -> None:
    response = operator.post("/admin/workflows/dag/sync/", follow=True)

    [(level, text)] = told(response)
    assert level == messages.ERROR
    assert text.startswith("The DAGs were not synced. Airflow does not answer: ")
    assert Dag.objects.get().is_present is True


@pytest.mark.airflow
def test_an_operator_syncs_triggers_and_stops_on_a_real_airflow(
    operator: Client, dag: Dag, form: dict[str, Any], airflow_server: object
) -> None:
    [(level, text)] = told(operator.post("/admin/workflows/dag/sync/", follow=True))
    assert level == messages.SUCCESS
    names = "data_processing_pipeline, ml_training_pipeline, simple_workflow_example"
    assert text == f"Airflow has 3 DAGs; changed: {names}; gone: nightly_etl."
    [(_, again)] = told(operator.post("/admin/workflows/dag/sync/", follow=True))
    assert again == "Airflow has 3 DAGs; nothing has changed."

    simple = Dag.objects.get(dag_id="simple_workflow_example")
    operator.post("/admin/workflows/workflow/add/", form | {"dag": simple.pk}, follow=True)
    workflow = Workflow.objects.get()
    [(level, text)] = act(operator, "workflow", "trigger", workflow)
    run = Run.objects.get()
    assert (level, text) == (messages.SUCCESS, f"Workflow Reports: triggered, {run} is queued")

    assert act(operator, "run", "stop", run) == [(messages.SUCCESS, f"Run {run}: it is stopping now.")]


# --- Schedules --------------------------------------------------------------------------------------------


def test_an_operator_changes_the_interval_of_a_schedule(operator: Client) -> None:
    task = beat.PeriodicTask.objects.get(name="Sync DAGs")
    beat.PeriodicTasks.objects.update(last_update=NOW)
    page = f"/admin/django_celery_beat/periodictask/{task.pk}/change/"
    slower = beat.IntervalSchedule.objects.create(every=5, period="minutes")
    shown = operator.get(page).context["adminform"].form.initial
    form = {key: value for key, value in shown.items() if value is not None and not isinstance(value, datetime)}

    response = operator.post(page, form | {"interval": slower.pk, "regtask": task.task})

    assert response.status_code == 302, response.context["adminform"].form.errors
    task.refresh_from_db()
    assert (task.task, str(task.schedule)) == ("workflows.tasks.sync_dags", "<freq: 5.00 minutes>")
    assert beat.PeriodicTasks.last_change() > NOW, "beat reads the schedules again when this moves"
