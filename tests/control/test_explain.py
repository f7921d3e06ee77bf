"""Why a run makes no progress: each reason, caused in the staged Airflow, and who can do what about it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.staged import ControlledAirflow
from workflows import gateway
from workflows.airflow.tests.scripted import Reply, paged
from workflows.conftest import bearer, token_of
from workflows.lifecycle import deletions
from workflows.models import Airflow, Dag, Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import at, dag_run, new_run
from workflows.watch import dags, poll
from workflows.watch.observation import Observation
from workflows.watch.observe import observe

pytestmark = pytest.mark.django_db

Reported = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _watched(airflow: ControlledAirflow, nightly: Workflow) -> None:
    """The worker has mirrored the DAGs and polled Airflow a moment ago."""
    dags.sync_dags(DEFAULT, now=timezone.now())
    assert poll.tick(DEFAULT, now=timezone.now())


def explained(api: APIClient, run: Run) -> list[dict[str, str]]:
    answer = api.get(f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/explain")
    assert (answer.status_code, answer.json()["state"]) == (200, run.state)
    reasons: list[dict[str, str]] = answer.json()["reasons"]
    return reasons


def why(api: APIClient, run: Run) -> Reported:
    """Return the code of each reason and who can act."""
    return [(reason["code"], reason["who"]) for reason in explained(api, run)]


def trigger(api: APIClient, workflow: Workflow, **body: Any) -> Run:
    answer = api.post(f"/api/v1/workflows/{workflow.pk}/runs", body)
    assert answer.status_code == 201
    return Run.objects.get(pk=answer.json()["id"])


def control(api: APIClient, run: Run, action: str) -> None:
    path = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/control"
    assert api.post(path, {"action": action}).status_code == 200
    run.refresh_from_db()


def with_task(run: Run, task_id: str, state: str) -> Run:
    TaskInstance.objects.create(run=run, task_id=task_id, state=state, try_number=1)
    return run


def test_a_run_that_nothing_holds_up_is_progressing(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)

    assert explained(api, run) == [
        {
            "code": "progressing",
            "reason": "Nothing holds it up: the scheduler picks it up next.",
            "who": "nobody",
            "action": "Wait.",
        }
    ]


def test_a_run_with_a_running_task_is_progressing_and_names_it(api: APIClient, nightly: Workflow) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "running")

    [reason] = explained(api, run)

    assert (reason["code"], reason["reason"]) == ("progressing", "Nothing holds it up. Running: extract.")


def failed_run(airflow: ControlledAirflow, workflow: Workflow, *lines: dict[str, Any]) -> Run:
    """Create a run whose task `extract` has failed on its second and last try, with this log."""
    run = new_run(workflow, RunState.FAILED, state_reason="failed in Airflow: extract")
    TaskInstance.objects.create(run=run, task_id="extract", state="failed", try_number=2, max_tries=1)
    TaskInstance.objects.create(run=run, task_id="load", state="upstream_failed")
    airflow.logs[run.dag_id, run.dag_run_id, "extract", -1, 2] = list(lines)
    return run


def marked(airflow: ControlledAirflow, run: Run, *, state: str, second: float, **fields: Any) -> None:
    """Airflow's audit log says that olga has given the run a state."""
    name = "new_state" if "task_id" in fields else "state"
    entry = {"when": at(second).isoformat(), "owner": "olga", "extra": json.dumps({name: state}), "task_id": None}
    airflow.answers["GET", "/eventLogs"] = paged("event_logs", [{**entry, **fields}])


@pytest.mark.parametrize(
    ("state", "second", "says"),
    [
        # It ended the run.
        ("failed", 9.5, True),
        ("failed", 10.5, True),
        # Somebody marked it after it had failed by itself.
        ("failed", 60, False),
        # In an earlier attempt.
        ("failed", 0, False),
        # The state of the run is another one: it went on after that.
        ("success", 9.5, False),
    ],
)
def test_a_run_that_was_marked_failed_in_airflow_says_who_did_it(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, state: str, second: float, says: bool
) -> None:
    run = new_run(nightly, RunState.FAILED, started_at=at(1), ended_at=at(10), state_reason="failed in Airflow")
    marked(airflow, run, state=state, second=second)

    reasons = explained(api, run)

    assert [reason["code"] for reason in reasons] == (["marked", "ended"] if says else ["ended"])
    if says:
        assert reasons[0] == {
            "code": "marked",
            "reason": f"It was marked failed in Airflow at {at(second):%Y-%m-%d %H:%M:%S} UTC, by olga.",
            "who": "operator",
            "action": "Ask olga why, or retry the run.",
        }


def test_a_success_that_was_marked_as_failed_later_says_who_did_it(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.QUEUED)
    for second, state in ((20, "success"), (90, "failed")):
        seen = Observation(at=at(second), run=dag_run(run, state, start=1, end=10), all_tasks=True)
        observe(run.pk, seen)
    run.refresh_from_db()
    marked(airflow, run, state="failed", second=80)

    assert why(api, run)[0] == ("marked", "operator")


def test_a_task_that_was_marked_failed_in_airflow_says_who_did_it(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED, started_at=at(1), ended_at=at(10))
    TaskInstance.objects.create(run=run, task_id="extract", state="failed", try_number=1, ended_at=at(8))
    marked(airflow, run, state="failed", second=7.9, task_id="extract")

    [reason, _] = explained(api, run)

    assert (reason["code"], reason["reason"]) == ("task_marked", "extract was marked failed in Airflow by olga.")


@pytest.mark.parametrize("status", [403, 404, 500])
def test_without_airflows_audit_log_nobody_is_named(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, status: int
) -> None:
    run = new_run(nightly, RunState.FAILED, started_at=at(1), ended_at=at(10))
    airflow.answers["GET", "/eventLogs"] = lambda _: Reply(status, {"detail": "no"})

    assert why(api, run) == [("ended", "you")]


TRACEBACK = {
    "event": "Task failed with exception",
    "level": "error",
    "error_detail": [{"exc_type": "ValueError", "exc_value": "no rows for 2026-03-01", "frames": []}],
}


def test_a_failed_run_names_the_task_that_failed_and_the_error_and_who_can_do_what(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(
        airflow, nightly, {"event": "12 rows", "level": "info"}, TRACEBACK, {"event": "bye", "level": "info"}
    )

    assert explained(api, run) == [
        {
            "code": "task_failed",
            "reason": "extract failed on try 2 of 2: ValueError: no rows for 2026-03-01",
            "who": "author",
            "action": "Read its log and fix the cause.",
        },
        {
            "code": "ended",
            "reason": "The run has ended: failed.",
            "who": "you",
            "action": "Retry the failed tasks and what follows them (mode failed), or all of it.",
        },
    ]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            ["[2026-03-01] {taskinstance.py:1} ERROR - no", "Traceback:", "etl.errors.LoadError: full"],
            "etl.errors.LoadError: full",
        ),
        (["all is well", "TimeoutErrors: 7"], ""),
        ([], ""),
    ],
)
def test_the_error_is_found_in_a_log_without_levels_too(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, lines: list[str], error: str
) -> None:
    run = failed_run(airflow, nightly, *({"event": line} for line in lines))

    reason, _ = explained(api, run)

    assert reason["reason"] == f"extract failed on try 2 of 2{f': {error}' if error else '.'}"


def test_a_failed_run_is_explained_also_while_airflow_is_down(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    with airflow.away("refuses"):
        reason, ended = explained(api, run)

    assert reason["reason"] == "extract failed on try 2 of 2."
    assert (ended["code"], ended["who"]) == ("ended", "you")


def test_a_log_may_take_longer_than_a_trigger_and_that_is_no_outage(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.DISPATCH_BUDGET = 1e-6  # no answer is that fast
    run = failed_run(airflow, nightly, TRACEBACK)

    reason, _ = explained(api, run)

    assert reason["reason"] == "extract failed on try 2 of 2: ValueError: no rows for 2026-03-01"
    assert gateway.answers(DEFAULT)


def test_all_failed_tasks_are_named_and_only_a_few_logs_are_read(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED)
    for n in range(5):
        TaskInstance.objects.create(run=run, task_id="load", map_index=n, state="failed", try_number=1)
        airflow.logs[run.dag_id, run.dag_run_id, "load", n, 1] = [TRACEBACK]

    reasons = explained(api, run)

    tails = [": ValueError: no rows for 2026-03-01"] * 3 + ["."] * 2
    expected = [f"load[{n}] failed on try 1 of 1{tail}" for n, tail in enumerate(tails)]
    assert [reason["reason"] for reason in reasons] == [*expected, "The run has ended: failed."]


def test_a_user_who_may_not_retry_a_failed_run_reads_whom_to_ask(
    airflow: ControlledAirflow, nightly: Workflow, vera: User
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)

    _, ended = explained(bearer(token_of(vera)), run)

    assert (ended["who"], ended["action"]) == ("operator", "Ask somebody who may control it to retry it.")


def test_a_failed_run_of_an_inactive_workflow_says_that_it_cannot_be_retried(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    Workflow.objects.update(is_active=False)

    _, ended = explained(api, run)

    text = "It cannot be retried. The workflow is not active: set is_active to true first."
    assert (ended["who"], ended["action"]) == ("operator", text)


def test_a_run_that_could_not_be_dispatched_says_why(api: APIClient, nightly: Workflow) -> None:
    reason = "Could not dispatch the run to Airflow: it did not answer; the deadline has passed"
    run = new_run(nightly, RunState.FAILED, state_reason=reason, queued_at=None)

    [ended] = explained(api, run)

    assert ended["reason"] == f"The run has ended: failed ({reason})."
    assert ended["action"] == "Trigger a new run: Airflow never had this one, so nothing can be retried."


@pytest.mark.parametrize(
    ("actions", "shown"), [(["view"], "."), (["view", "logs"], ": ValueError: no rows for 2026-03-01")]
)
def test_a_ticket_without_logs_sees_the_task_and_not_its_log(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, actions: list[str], shown: str
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    ticket = api.post("/api/v1/tickets", {"run_id": str(run.pk), "actions": actions, "ttl": 600}).json()["ticket"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Ticket {ticket}")

    reason, ended = explained(client, run)

    assert reason["reason"] == f"extract failed on try 2 of 2{shown}"
    assert ended["who"] == "operator"


@pytest.mark.parametrize("state", [RunState.SUCCESS, RunState.FAILED, RunState.STOPPED])
def test_a_run_that_has_ended_says_so_and_airflow_is_not_asked(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, state: RunState
) -> None:
    asked = len(airflow.requests)

    [reason] = explained(api, new_run(nightly, state))

    assert (reason["code"], reason["who"], reason["reason"]) == ("ended", "you", f"The run has ended: {state}.")
    assert len(airflow.requests) == asked


def test_a_delayed_run_says_when_it_starts(api: APIClient, airflow: ControlledAirflow, nightly: Workflow) -> None:
    run_at = timezone.now() + timedelta(hours=1)
    asked = len(airflow.requests)
    run = trigger(api, nightly, run_at=run_at.isoformat())

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("scheduled", "nobody")
    assert reason["reason"] == f"It starts at {run_at:%Y-%m-%d %H:%M:%S} UTC."
    assert len(airflow.requests) == asked


def test_a_held_run_is_for_you_to_resume(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly, run_at=(timezone.now() + timedelta(hours=1)).isoformat())
    control(api, run, "pause")

    assert why(api, run) == [("held", "you"), ("scheduled", "nobody")]
    Run.objects.update(run_at=None)
    assert why(api, run) == [("held", "you")]


def test_a_run_of_a_paused_dag_is_for_you_to_resume(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)
    control(api, run, "pause")

    assert why(api, run) == [("dag_paused", "you")]

    control(api, run, "resume")
    assert why(api, run) == [("progressing", "nobody")]


def test_a_run_whose_dag_was_paused_in_airflow_says_so_after_a_sync(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    airflow.dags["etl"]["listed"]["is_paused"] = True
    dags.sync_dags(DEFAULT, now=timezone.now())

    assert why(api, run) == [("dag_paused", "you")]


def test_a_run_that_waits_for_an_airflow_that_is_down_names_the_error(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    with airflow.away("answers 503"):
        run = trigger(api, nightly)
        assert run.state == RunState.PENDING
        while gateway.breaker_is_closed(DEFAULT):
            assert not poll.tick(DEFAULT, now=timezone.now())

        down, waiting = explained(api, run)

    assert (down["code"], down["who"]) == ("airflow_down", "operator")
    assert down["reason"] == "Airflow does not answer: down for maintenance."
    assert (waiting["code"], waiting["who"]) == ("not_handed_over", "operator")
    text = "Airflow did not start it in 1 attempt so far: down for maintenance."
    assert waiting["reason"] == text


def test_an_airflow_that_is_down_is_named_where_there_are_several(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.RUNNING)
    Airflow.objects.create(name="prod", is_active=False)
    Airflow.objects.filter(name=DEFAULT).update(reachable=False, last_error="refused")

    [down] = explained(api, run)

    assert down["reason"] == "The Airflow default does not answer: refused."


def test_a_running_run_in_an_airflow_that_is_down_says_so_too(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.RUNNING)
    with airflow.away("answers 503"):
        assert not poll.tick(DEFAULT, now=timezone.now())

        assert why(api, run) == [("airflow_down", "operator")]


def test_an_open_breaker_is_reported_and_airflow_is_not_asked(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_RESET = 1, 60
    gateway.breaker.cache_clear()
    run = new_run(nightly, RunState.RUNNING)
    with airflow.away("refuses"):
        assert not poll.tick(DEFAULT, now=timezone.now())
    assert not gateway.breaker_is_closed(DEFAULT)
    asked = len(airflow.requests)

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("airflow_down", "operator")
    assert reason["reason"].startswith("Airflow does not answer: ")
    assert len(airflow.requests) == asked


def test_an_outage_found_by_the_question_itself_is_not_called_progress(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    with airflow.away("answers 503"):
        assert why(api, run) == [("airflow_down", "operator")]


def test_an_airflow_that_no_worker_polls_is_reported(api: APIClient, nightly: Workflow, settings: Settings) -> None:
    run = trigger(api, nightly)
    long_ago = timezone.now() - timedelta(seconds=settings.STALE_AFTER + 1)
    Airflow.objects.update(looked_at=long_ago)

    assert why(api, run) == [("not_watched", "operator")]


@pytest.mark.parametrize("status", ["healthy", "unhealthy"])
def test_a_scheduler_without_a_heartbeat_is_reported_whatever_it_calls_itself(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, status: str
) -> None:
    run = trigger(api, nightly)
    beat = timezone.now() - timedelta(seconds=31)
    airflow.health["scheduler"] = {"status": status, "latest_scheduler_heartbeat": beat.isoformat()}

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("scheduler_down", "operator")
    assert reason["reason"] == (f"Airflow's scheduler is not running, its last heartbeat was at {beat:%H:%M:%S} UTC.")
    airflow.health["scheduler"] |= {"status": "healthy", "latest_scheduler_heartbeat": timezone.now().isoformat()}
    assert why(api, run) == [("progressing", "nobody")]


def test_a_dag_that_airflow_cannot_import_is_for_its_author(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    error = {"filename": "etl.py", "stack_trace": "SyntaxError: line 3", "timestamp": None, "bundle_name": None}
    airflow.import_errors = [error]
    dags.sync_dags(DEFAULT, now=timezone.now())

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("import_error", "author")
    assert reason["reason"] == "Airflow cannot import the file of etl."


def test_a_dag_that_airflow_does_not_have_any_more_is_for_its_author(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    airflow.dags.clear()
    dags.sync_dags(DEFAULT, now=timezone.now())

    assert why(api, run) == [("dag_gone", "author")]


def test_a_queued_run_behind_max_active_runs_says_so(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    for part in ("listed", "details"):
        airflow.dags["etl"][part]["max_active_runs"] = 2
    dags.sync_dags(DEFAULT, now=timezone.now())
    ahead = [new_run(nightly, RunState.RUNNING) for _ in range(2)]
    airflow.put(ahead[0], "running", start=0)
    run = trigger(api, nightly)
    assert why(api, run) == [("progressing", "nobody")]

    airflow.put(ahead[1], "running", start=0)

    [reason] = explained(api, run)
    assert (reason["code"], reason["who"]) == ("max_active_runs", "author")
    assert reason["reason"] == "As many runs of etl are running as max_active_runs allows: 2."


def test_a_task_that_waits_for_a_slot_of_its_full_pool_is_for_an_operator(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "scheduled")
    airflow.pools[0]["open_slots"] = 0

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("pool_full", "operator")
    assert reason["reason"] == "extract waits for a slot: all 128 of the pool default_pool are taken."
    airflow.pools[0]["open_slots"] = 1
    assert why(api, run) == [("progressing", "nobody")]


@pytest.mark.parametrize(
    ("state", "expected"), [("up_for_retry", ("up_for_retry", "nobody")), ("queued", ("task_queued", "operator"))]
)
def test_a_task_that_waits_is_named(api: APIClient, nightly: Workflow, state: str, expected: tuple[str, str]) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", state)

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == expected
    assert reason["reason"].startswith("extract ")


def test_a_task_that_waits_for_a_person_says_what_it_asks_and_who_may_answer(api: APIClient, nightly: Workflow) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "awaiting_input")
    question = {"subject": "May it go on?", "options": ["Yes", "No"], "respondents": []}
    expected = {"code": "awaiting_input", "who": "respondent"}

    run.tasks.update(question={})
    text = "extract waits for a person to answer."
    assert explained(api, run) == [{**expected, "reason": text, "action": "Answer it in Airflow."}]

    run.tasks.update(question=question)
    text = "extract waits for a person to answer: May it go on? Options: Yes, No."
    assert explained(api, run) == [{**expected, "reason": text, "action": "Answer it in Airflow."}]

    run.tasks.update(question={**question, "respondents": ["ada", "bob"]})
    action = "Answer it in Airflow. Only these accounts may: ada, bob."
    assert explained(api, run) == [{**expected, "reason": text, "action": action}]


def test_a_run_that_is_stopping_says_what_it_waits_for(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)
    control(api, run, "stop")

    assert why(api, run) == [("stopping", "nobody")]


def test_several_reasons_are_given_the_most_direct_first(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "queued")
    Dag.objects.update(is_paused=True, import_error="SyntaxError")
    airflow.health["scheduler"] = {"status": "unhealthy"}
    airflow.pools[0]["open_slots"] = 0

    assert why(api, run) == [
        ("import_error", "author"),
        ("dag_paused", "you"),
        ("scheduler_down", "operator"),
        ("pool_full", "operator"),
    ]


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"status": None}, "wait: deferred to Airflow's triggerer, and none is running."),
        (
            {"status": "unhealthy", "latest_triggerer_heartbeat": "2026-03-01T11:00:00+00:00"},
            "wait: deferred to Airflow's triggerer, and none is running: its last heartbeat was at 11:00:00 UTC.",
        ),
    ],
    ids=["never one", "stopped"],
)
def test_a_deferred_task_without_a_triggerer_is_for_an_operator(
    api: APIClient, nightly: Workflow, airflow: ControlledAirflow, health: dict[str, Any], said: str
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "wait", "deferred")
    assert [reason["reason"] for reason in explained(api, run)] == [
        "Nothing holds it up. Deferred until their trigger fires: wait."
    ]
    airflow.health["triggerer"] = health

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"], reason["reason"]) == ("triggerer_down", "operator", said)


def test_a_run_without_deferred_tasks_needs_no_triggerer(
    api: APIClient, nightly: Workflow, airflow: ControlledAirflow
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "work", "running")
    airflow.health["triggerer"] = {"status": None}

    assert why(api, run) == [("progressing", "nobody")]


@pytest.mark.parametrize(("timeout", "named"), [("PT40S", True), ("PT1M", False), (None, False)])
def test_a_run_that_timed_out_names_what_was_cut_off(
    api: APIClient, nightly: Workflow, airflow: ControlledAirflow, timeout: str | None, named: bool
) -> None:
    """Airflow 3.3.2 shows these states and times after a dagrun_timeout."""
    airflow.dags["etl"]["details"]["dag_run_timeout"] = timeout
    run = new_run(nightly, RunState.FAILED, started_at=at(0), ended_at=at(40.1), state_reason="failed in Airflow")
    for task_id, state, start, end in (
        ("first", "success", at(1), at(2)),
        ("branch", "skipped", at(3), at(3)),
        ("slow", "skipped", at(4), None),
        ("behind_it", "skipped", None, None),
    ):
        TaskInstance.objects.create(run=run, task_id=task_id, state=state, try_number=1, started_at=start, ended_at=end)

    reasons = explained(api, run)

    text = (
        "The run reached the dagrun_timeout of its DAG, 0:00:40: Airflow ended it after 40 s. Cut off: slow. "
        "Never started: behind_it."
    )
    expected = [("run_timeout", "author", text)] if named else []
    said = [(reason["code"], reason["who"], reason["reason"]) for reason in reasons]
    assert said[:-1] == expected
    assert said[-1][0] == "ended"


def test_a_run_that_was_deleted_in_airflow_says_so(
    api: APIClient, nightly: Workflow, airflow: ControlledAirflow
) -> None:
    run = new_run(nightly, RunState.FAILED, started_at=at(0), ended_at=at(5))
    with gateway.watched(DEFAULT) as client:
        assert deletions.is_gone(client, run, now=timezone.now())

    said = explained(api, run)[-1]

    assert said["reason"].endswith("It was deleted in Airflow since, with its logs.")
    assert said["action"] == "Trigger a new run: this one cannot be retried."
