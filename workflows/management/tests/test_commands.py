"""The commands for scripts and people at a terminal."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from workflows.models import Airflow, AirflowCommand, Dag, Event, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, at, new_run

pytestmark = pytest.mark.django_db(transaction=True)


def say(*words: str, **options: Any) -> list[str]:
    """Call a command and return the lines of its output."""
    out = StringIO()
    call_command(*words, stdout=out, stderr=out, no_color=True, **options)
    return out.getvalue().splitlines()


def refusal(*words: str) -> str:
    """Return the error of a command, which must store nothing."""
    before = (Run.objects.count(), Event.objects.count(), AirflowCommand.objects.count())
    with pytest.raises(CommandError) as refused:
        say(*words)
    assert (Run.objects.count(), Event.objects.count(), AirflowCommand.objects.count()) == before
    return str(refused.value)


@pytest.fixture
def _airflow_runs_it(airflow: StagedAirflow) -> Iterator[None]:
    """An Airflow in which every run succeeds at once."""
    over = threading.Event()

    def play() -> None:
        while not over.wait(0.02):
            for (dag_id, run_id), theirs in list(airflow.runs.items()):
                if theirs["state"] == "queued":
                    run = Run(dag_id=dag_id, dag_run_id=run_id)
                    airflow.put_task(run, "extract", "success", start=2, end=5)
                    airflow.put(run, "success", start=1, end=9)

    playing = threading.Thread(target=play)
    playing.start()
    yield
    over.set()
    playing.join()


# --- run_workflow -----------------------------------------------------------------------------------------------


def test_run_workflow_triggers_as_the_first_admin(airflow: StagedAirflow, nightly: Workflow, root: User) -> None:
    lines = say("run_workflow", "Nightly", "--param", "rows=5", "--param", "mode=slow", "--note", "by hand")

    run = Run.objects.get()
    assert lines == [f"{run.pk} queued"]
    assert (run.user, run.trigger_type, run.note) == (root, "command", "by hand")
    assert run.parameters == {"rows": 5, "mode": "slow"}


def test_run_workflow_gives_a_run_its_dates(airflow: StagedAirflow, nightly: Workflow, root: User) -> None:
    say(
        "run_workflow", "Nightly", "--logical-date", "2026-03-03T01:00:00+01:00",
        "--data-interval", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z",
    )  # fmt: skip

    run = Run.objects.get()
    first, second, third = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3))
    assert (run.logical_date, run.data_interval) == (third, (first, second))


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (["--logical-date", "2026-03-01"],
         "argument --logical-date: '2026-03-01' must name its time zone, such as 2026-11-28T14:00:00Z"),
        (["--logical-date", "today"], "argument --logical-date: 'today' is not an ISO 8601 time"),
        (["--data-interval", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"],
         "data_interval: Only allowed with a logical_date."),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("nightly", "root")
def test_run_workflow_refuses_wrong_dates(airflow: StagedAirflow, given: list[str], refused: str) -> None:
    assert refused in refusal("run_workflow", "Nightly", *given)
    assert (Run.objects.count(), airflow.requests) == (0, [])


@pytest.mark.usefixtures("airflow", "nightly", "root")
def test_run_workflow_accepts_a_name_a_dag_id_or_an_id_and_another_user(ada: User) -> None:
    for name in ("Nightly", "etl", str(Workflow.objects.get().pk)):
        say("run_workflow", name, "--user", "ada")

    assert list(Run.objects.values_list("user__username", flat=True)) == ["ada"] * 3


@pytest.mark.usefixtures("_airflow_runs_it", "root")
def test_run_workflow_with_watch_shows_each_event_and_ends_with_the_run(
    nightly: Workflow, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = say("run_workflow", "Nightly", "--watch")

    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line[2:3] == ":" and "." in line]
    assert lines == [f"{Run.objects.get().pk} success"]
    assert shown == [
        "workflow.triggered",
        "workflow.started",
        "task.started",
        "task.completed",
        "workflow.completed",
    ]


@pytest.mark.usefixtures("airflow", "root")
def test_a_dag_id_of_two_airflows_names_several_workflows(nightly: Workflow, ada: User) -> None:
    dag = Dag.objects.create(airflow=Airflow.objects.create(name="prod"), dag_id="etl")
    there = Workflow.objects.create(name="There", dag=dag, owner=ada)

    several = f"Several workflows match 'etl'. Use an id: {nightly.pk}, {there.pk} (in the Airflow prod)."
    assert refusal("run_workflow", "etl") == several


@pytest.mark.usefixtures("airflow", "root")
def test_run_workflow_says_what_is_wrong(nightly: Workflow, secret: Workflow, ada: User) -> None:
    assert refusal("run_workflow", "nope") == "There is no workflow 'nope'. The workflows are: Nightly, Secret."
    several = f"Several workflows match 'etl'. Use an id: {nightly.pk}, {secret.pk}."
    assert refusal("run_workflow", "etl") == several
    assert refusal("run_workflow", "Nightly", "--param", "rows") == "--param 'rows': expected NAME=VALUE."
    assert refusal("run_workflow", "Nightly", "--user", "nobody") == "There is no user nobody."
    first, *fields = refusal("run_workflow", "Nightly", "--param", "rows=ten", "--param", "mode=x").splitlines()
    assert first == "The parameters do not fit the DAG."
    # PostgreSQL reorders the properties of a schema.
    assert sorted(fields) == [
        "parameters.mode: 'x' is not one of ['fast', 'slow']",
        "parameters.rows: 'ten' is not of type 'integer'",
    ]
    Workflow.objects.update(is_active=False)
    assert refusal("run_workflow", "Nightly") == "The workflow is not active: set is_active to true first."


@pytest.mark.usefixtures("airflow", "nightly")
def test_run_workflow_without_an_admin_says_how_to_get_one() -> None:
    assert refusal("run_workflow", "Nightly") == "There is no admin: run ensure_admin."


# --- stop_run and retry_run -------------------------------------------------------------------------------------


def test_stop_run_with_watch_ends_when_the_run_is_stopped(
    airflow: StagedAirflow, nightly: Workflow, root: User
) -> None:
    run = new_run(nightly, RunState.RUNNING, started_at=at(1))
    airflow.put(run, "running", start=1)
    airflow.put_task(run, "extract", "running", start=2)
    airflow.put_log(run, "extract", "::group::Pre Execute", "::endgroup::", "Task killed!")

    lines = say("stop_run", str(run.pk), "--note", "enough", "--watch")

    assert lines == [f"{run.pk} stopped"]
    run.refresh_from_db()
    assert run.state_reason == "stopped by root: enough"


@pytest.fixture
def failed(airflow: StagedAirflow, nightly: Workflow) -> Run:
    run = new_run(nightly, RunState.FAILED, started_at=at(1), ended_at=at(9), observed_at=NOW)
    run.tasks.create(task_id="extract", state="failed", try_number=1)
    run.tasks.create(task_id="load", map_index=1, state="success", try_number=1)
    run.tasks.create(task_id="load", map_index=2, state="failed", try_number=1)
    airflow.put(run, "failed", start=1, end=9)
    airflow.put_task(run, "extract", "failed", start=2, end=5)
    airflow.put_task(run, "load", "failed", index=2, start=2, end=5)
    return run


@pytest.mark.usefixtures("root")
def test_retry_run_with_dry_run_lists_and_changes_nothing(airflow: StagedAirflow, failed: Run) -> None:
    assert say("retry_run", str(failed.pk), "--dry-run") == ["extract", "load[2]"]

    failed.refresh_from_db()
    assert (failed.state, failed.attempt, airflow.cleared) == ("failed", 1, [])


@pytest.mark.usefixtures("root")
def test_retry_run_retries(airflow: StagedAirflow, failed: Run) -> None:
    which = ("--mode", "from_task", "--from-task", "load", "--map-index", "2")
    assert say("retry_run", str(failed.pk), *which) == [f"{failed.pk} queued"]

    assert [cleared["task_ids"] for cleared in airflow.cleared] == [[["load", 2]]]


@pytest.mark.usefixtures("root")
def test_a_watched_run_that_ends_badly_is_an_error_with_its_reason(airflow: StagedAirflow, failed: Run) -> None:
    def fails_again() -> None:
        while not airflow.cleared:
            time.sleep(0.01)
        airflow.put_task(failed, "extract", "failed", tries=2, start=1_000_000_000, end=1_000_000_001)
        airflow.put(failed, "failed", start=999_999_999, end=1_000_000_002)

    failing = threading.Thread(target=fails_again)
    failing.start()
    try:
        with pytest.raises(CommandError, match=r"^failed in Airflow: extract$"):
            say("retry_run", str(failed.pk), "--watch")
    finally:
        failing.join()


@pytest.mark.usefixtures("airflow", "root")
@pytest.mark.parametrize("command", ["stop_run", "retry_run"])
def test_an_unknown_run_is_named_in_the_error(command: str, nightly: Workflow) -> None:
    unknown = uuid.uuid4()

    assert refusal(command, "x") == "'x' is not a run id: expected a UUID."
    assert refusal(command, str(unknown)) == f"There is no run {unknown}."


@pytest.mark.usefixtures("airflow", "root")
def test_a_refused_action_prints_one_sentence(nightly: Workflow) -> None:
    over, going = new_run(nightly, RunState.SUCCESS), new_run(nightly, RunState.RUNNING)

    assert refusal("stop_run", str(over.pk)) == "A run that is success cannot be stopped."
    assert refusal("retry_run", str(going.pk)) == "A run that is running cannot be retried."
    assert refusal("retry_run", str(over.pk), "--mode", "all", "--from-task", "x").splitlines()[1] == (
        "from_task: Only allowed with mode from_task."
    )


# --- The others -------------------------------------------------------------------------------------------------


def test_sync_dags_prints_what_it_did(airflow: StagedAirflow) -> None:
    error = {"import_error_id": 1, "filename": "etl.py", "stack_trace": "SyntaxError", "timestamp": None}
    assert say("sync_dags") == ["1 DAGs found, 1 changed, 0 gone."]
    new = {**error, "import_error_id": 2, "filename": "new.py", "stack_trace": "Traceback\n  line 1\nKeyError: 'x'\n"}
    airflow.import_errors = [error, new]

    assert say("sync_dags") == [
        "1 DAGs found, 0 changed, 0 gone.",
        "etl.py: Airflow cannot import it. SyntaxError",
        "new.py: Airflow cannot import it. KeyError: 'x'",
    ]

    airflow.import_errors = []
    airflow.dags["etl"]["details"]["doc_md"] = 5
    assert say("sync_dags") == [
        "1 DAGs found, 1 changed, 0 gone.",
        "etl: SVOps cannot use it. DAG: doc_md should be a string, got int",
    ]


@pytest.mark.usefixtures("airflow", "nightly")
def test_reconcile_polls() -> None:
    assert say("reconcile") == ["Polled."]


@pytest.mark.usefixtures("no_airflow", "nightly", "root")
@pytest.mark.parametrize("command", ["reconcile", "sync_dags", "load_examples"])
def test_without_airflow_a_command_says_so(command: str) -> None:
    assert_says_down(lambda: say(command))


def assert_says_down(call: Callable[[], Any]) -> None:
    with pytest.raises(CommandError, match=r"^Airflow does not answer: no answer from Airflow"):
        call()


def test_load_examples_creates_a_workflow_for_each_example_once(airflow: StagedAirflow, root: User) -> None:
    example = airflow.dags.pop("etl")
    for name in ("simple_workflow_example", "other"):
        airflow.dags[name] = {**example, "listed": {**example["listed"], "dag_id": name}}
        airflow.dags[name]["details"] = {**example["details"], "dag_id": name}

    first, again = say("load_examples"), say("load_examples")

    workflow = Workflow.objects.get()
    assert (first, again) == ([f"Loaded workflow {workflow.pk}: Simple workflow."], [])
    assert (workflow.name, workflow.dag.dag_id, workflow.owner) == ("Simple workflow", "simple_workflow_example", root)


def test_load_examples_does_not_bring_a_deleted_example_back(airflow: StagedAirflow, root: User) -> None:
    dag = Dag.objects.create(dag_id="simple_workflow_example")
    Workflow.objects.create(name="Simple", dag=dag, owner=root, deleted_at=NOW)
    airflow.dags["simple_workflow_example"] = {
        **airflow.dags["etl"],
        "listed": {**airflow.dags["etl"]["listed"], "dag_id": "simple_workflow_example"},
        "details": {**airflow.dags["etl"]["details"], "dag_id": "simple_workflow_example"},
    }

    assert say("load_examples") == []

    assert Workflow.objects.count() == 1


@pytest.mark.usefixtures("airflow", "root")
def test_load_examples_names_the_missing_examples_after_its_wait() -> None:
    with pytest.raises(CommandError) as refused:
        say("load_examples", "--wait", "0.01")

    missing = "data_processing_pipeline, ml_training_pipeline, simple_workflow_example"
    assert str(refused.value) == f"Airflow has not read {missing}."


@pytest.mark.usefixtures("airflow")
def test_load_examples_without_an_admin_says_how_to_get_one() -> None:
    assert refusal("load_examples") == "There is no admin who could own the workflows: run ensure_admin first."
