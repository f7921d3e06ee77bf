"""Tasks that wait for a person: what is recorded of the question and of the answer, and what that may not disturb."""

from __future__ import annotations

from typing import Any

import pytest

from workflows import gateway
from workflows.airflow.tests.scripted import Handler, Reply, Request, paged
from workflows.models import Airflow, Run, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import StagedAirflow, at, iso, new_run, story
from workflows.watch import poll, push, sweeps

pytestmark = pytest.mark.django_db(transaction=True)

LISTED = ("GET", "/dags/~/dagRuns/~/hitlDetails")
QUESTION: dict[str, Any] = {
    "subject": "May it go on?",
    "body": "**Look** first.",
    "options": ["Yes", "No"],
    "defaults": ["No"],
    "multiple": False,
    "params": {"reason": {"value": "", "description": None, "schema": {"type": "string"}, "source": "task"}},
    "respondents": ["ada", "bob"],
}


@pytest.fixture(autouse=True)
def _swept(airflow: StagedAirflow) -> None:
    """A sweep has just been made."""
    Airflow.default()
    Airflow.objects.update(swept_at=at(0))


@pytest.fixture
def run(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """A run in Airflow with one task, which waits for a person."""
    run = new_run(nightly)
    airflow.put(run, "running", start=1)
    airflow.put_task(run, "extract", "awaiting_input", start=2, id="id-1")
    return run


def detail(airflow: StagedAirflow, run: Run, task_id: str = "extract", **answer: Any) -> dict[str, Any]:
    """Return what Airflow 3.3 answers about the question of a task."""
    asked = {name: value for name, value in QUESTION.items() if name != "respondents"}
    users = [{"id": str(number), "name": name} for number, name in enumerate(QUESTION["respondents"])]
    times = {"created_at": iso(3), "responded_at": None, "responded_by_user": None, "chosen_options": None}
    task = airflow.tasks[run.dag_id, run.dag_run_id, task_id, -1]
    return {**asked, **times, "assigned_users": users, "params_input": {}, "task_instance": task, **answer}


def asks(airflow: StagedAirflow, run: Run) -> None:
    def list_open(request: Request) -> Reply:
        assert (request.query["response_received"], request.query["state"]) == (["false"], ["awaiting_input"])
        return paged("hitl_details", [detail(airflow, run)])(request)

    airflow.answers[LISTED] = list_open


def answer(airflow: StagedAirflow, run: Run, **fields: Any) -> None:
    """Let somebody answer in Airflow."""
    given = {"responded_at": iso(20), "chosen_options": ["Yes"], "params_input": {"reason": "fine"}, **fields}
    airflow.answers[one_of(run)] = lambda _: Reply(200, detail(airflow, run, **given))


def one_of(run: Run) -> tuple[str, str]:
    return ("GET", f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/extract/-1/hitlDetails")


def refuse(status: int) -> Handler:
    return lambda _: Reply(status, {"detail": "no"})


def tick(second: float) -> bool:
    gateway.breaker(DEFAULT).close()
    return poll.tick(DEFAULT, now=at(second))


def asked(airflow: StagedAirflow) -> int:
    return sum(path.endswith("/hitlDetails") for _, path in airflow.calls)


def question_of(run: Run) -> dict[str, Any]:
    question: dict[str, Any] | None = run.tasks.get().question
    assert question is not None
    return question


def data_of(run: Run, kind: str) -> dict[str, Any]:
    data: dict[str, Any] = run.events.get(type=kind).data
    return data


def test_the_start_and_the_question_are_recorded_and_airflow_is_asked_once(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)

    assert tick(10)
    assert tick(12)

    assert story(run) == ["workflow.started", "task.started extract 1", "task.awaiting_input extract 1"]
    ids = {"map_index": -1, "try_number": 1, "instance_id": "id-1"}
    assert data_of(run, "task.awaiting_input") == {"state": "awaiting_input", "duration_s": None, **ids, **QUESTION}
    assert run.events.get(type="task.awaiting_input").timestamp == at(3)
    task = run.tasks.get()
    assert task.awaits_person
    assert task.question == {**QUESTION, "asked_at": "2026-03-01T12:00:03Z", "answer": None}
    assert asked(airflow) == 1


def test_the_answer_is_recorded_before_the_end_of_the_task(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)
    assert tick(10)
    airflow.put(run, "success", start=1, end=23)
    airflow.put_task(run, "extract", "success", start=2, end=22, id="id-1")
    answer(airflow, run, responded_by_user={"id": "0", "name": "ada"})

    assert tick(25)
    assert tick(27)

    assert story(run)[3:] == ["task.input_received extract 1", "task.completed extract 1", "workflow.completed"]
    received = data_of(run, "task.input_received")
    assert (received["chosen"], received["params"], received["by"]) == (["Yes"], {"reason": "fine"}, "ada")
    assert run.events.get(type="task.input_received").timestamp == at(20)
    assert question_of(run)["answer"] == {
        "chosen": ["Yes"],
        "params": {"reason": "fine"},
        "by": "ada",
        "at": "2026-03-01T12:00:20Z",
    }
    assert asked(airflow) == 2


def test_a_pushed_end_reads_the_answer_first(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)
    assert tick(10)
    answer(airflow, run)

    record = {"kind": "task", "at": iso(22), "id": "id-1", "dag_id": run.dag_id, "dag_run_id": run.dag_run_id}
    times = {"start_date": iso(2), "end_date": iso(22), "max_tries": 0, "state": "success", "try_number": 1}
    push.receive(DEFAULT, [{**record, "task_id": "extract", "map_index": -1, **times}], now=at(22))

    assert story(run)[3:] == ["task.input_received extract 1", "task.completed extract 1"]
    assert data_of(run, "task.input_received")["by"] == ""


def test_a_task_that_failed_because_nobody_answered_has_no_answer(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)
    assert tick(10)
    airflow.put_task(run, "extract", "failed", start=2, end=22, id="id-1")
    answer(airflow, run, responded_at=None, chosen_options=None)

    assert tick(25)

    assert story(run)[3:] == ["task.failed extract 1"]
    assert question_of(run)["answer"] is None


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_airflow_that_does_not_say_what_is_asked_holds_nothing_up(
    airflow: StagedAirflow, run: Run, nightly: Workflow, status: int
) -> None:
    airflow.answers[LISTED] = refuse(status)
    other = new_run(nightly)
    airflow.put(other, "success", start=1, end=9)

    assert tick(10)
    assert tick(12)

    other.refresh_from_db()
    assert other.state == "success"
    assert story(run)[1:] == ["task.started extract 1", "task.awaiting_input extract 1"]
    unknown = data_of(run, "task.awaiting_input")
    assert (unknown["subject"], unknown["options"], unknown["respondents"]) == ("", [], [])
    assert run.tasks.get().question == {}
    assert asked(airflow) == 1
    assert Airflow.default().reachable


def test_a_sweep_reads_the_question_that_airflow_did_not_say_before(airflow: StagedAirflow, run: Run) -> None:
    airflow.answers[LISTED] = refuse(503)
    assert tick(10)
    asks(airflow, run)
    gateway.breaker(DEFAULT).close()

    with gateway.watched(DEFAULT) as client:
        sweeps.sweep(client, now=at(60))

    assert question_of(run)["subject"] == "May it go on?"
    assert story(run).count("task.awaiting_input extract 1") == 1


def test_an_answer_that_cannot_be_read_does_not_hold_up_the_end(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)
    assert tick(10)
    airflow.put_task(run, "extract", "success", start=2, end=22, id="id-1")
    airflow.answers[one_of(run)] = refuse(503)

    assert tick(25)

    assert story(run)[3:] == ["task.completed extract 1"]


def test_a_question_of_any_content_can_be_stored(airflow: StagedAirflow, run: Run) -> None:
    strange: dict[str, Any] = {
        "subject": "a\0b" + "x" * 5000,
        "body": "\ud800" + "y" * 50_000,
        "params": {"n": float("nan")},
    }
    airflow.answers[LISTED] = lambda request: paged("hitl_details", [detail(airflow, run, **strange)])(request)

    assert tick(10)

    shown = data_of(run, "task.awaiting_input")
    assert (len(shown["subject"]), len(shown["body"]), shown["params"]) == (1000, 10_000, {"n": "NaN"})
    assert shown["subject"].startswith("a\N{REPLACEMENT CHARACTER}bx")


def test_a_retry_asks_again(airflow: StagedAirflow, run: Run) -> None:
    asks(airflow, run)
    assert tick(10)
    airflow.put_task(run, "extract", "awaiting_input", tries=2, start=30, id="id-2")

    assert tick(35)

    assert story(run)[3:] == ["task.retrying extract 1", "task.started extract 2", "task.awaiting_input extract 2"]
    assert asked(airflow) == 2


@pytest.mark.parametrize(("version", "calls"), [("3.1.8", 1), ("3.2.0", 1), ("3.3.2", 0)])
def test_before_airflow_3_3_a_deferred_task_may_wait_for_a_person(
    airflow: StagedAirflow, run: Run, version: str, calls: int
) -> None:
    airflow.version = version
    airflow.put_task(run, "extract", "deferred", start=2, id="id-1")
    airflow.put_task(run, "load", "deferred", start=2, id="id-2")
    airflow.answers[LISTED] = lambda request: paged("hitl_details", [detail(airflow, run)])(request)

    assert tick(10)
    assert tick(12)

    assert {task.task_id: task.awaits_person for task in run.tasks.all()} == {"extract": bool(calls), "load": False}
    assert [word for word in story(run) if "awaiting" in word] == ["task.awaiting_input extract 1"] * calls
    assert asked(airflow) == calls


# Asked and answered between two polls


BOTH = ["task.awaiting_input extract 1", "task.input_received extract 1"]


def asked_meanwhile(airflow: StagedAirflow, run: Run, **fields: Any) -> None:
    """The task has asked since the last poll. Without fields, ada has answered it."""
    given = {"responded_at": iso(4), "responded_by_user": {"id": "0", "name": "ada"}, "chosen_options": ["Yes"]}

    def list_all(request: Request) -> Reply:
        if "response_received" in request.query:
            return paged("hitl_details", [])(request)
        assert request.query["created_at_gte"] <= [at(2).isoformat()]
        return paged("hitl_details", [detail(airflow, run, **(fields or given))])(request)

    airflow.answers[LISTED] = list_all


def ends(airflow: StagedAirflow, run: Run, state: str, *, operator: str = "ApprovalOperator", **fields: Any) -> None:
    airflow.put_task(run, "extract", state, start=2, end=6, id="id-1", **fields)
    airflow.tasks[run.dag_id, run.dag_run_id, "extract", -1]["operator"] = operator


@pytest.mark.parametrize("ran_before", [True, False])
@pytest.mark.parametrize(
    ("state", "end", "run_ends"),
    [
        ("success", "task.completed", False),
        ("success", "task.completed", True),
        ("failed", "task.failed", False),
        ("failed", "task.failed", True),
        ("up_for_retry", "task.retrying", False),
    ],
)
def test_a_question_that_is_answered_between_two_polls_is_told_before_the_end(
    airflow: StagedAirflow, run: Run, state: str, end: str, run_ends: bool, ran_before: bool
) -> None:
    airflow.answers[LISTED] = paged("hitl_details", [])
    airflow.put_task(run, "extract", "running" if ran_before else "queued", start=2 if ran_before else None, id="id-1")
    assert tick(3)
    asked_meanwhile(airflow, run)
    ends(airflow, run, state)
    if run_ends:
        airflow.put(run, "failed", start=1, end=7)

    assert tick(10)
    assert tick(12)

    of_run = ["workflow.failed"] if run_ends else []
    assert story(run) == ["workflow.started", "task.started extract 1", *BOTH, f"{end} extract 1", *of_run]
    received = data_of(run, "task.input_received")
    assert (received["chosen"], received["by"]) == (["Yes"], "ada")
    assert run.events.get(type="task.awaiting_input").timestamp == at(3)
    assert run.events.get(type="task.input_received").timestamp == at(4)
    answered = question_of(run)["answer"]
    assert (answered["by"], answered["at"]) == ("ada", "2026-03-01T12:00:04Z")


def test_a_question_that_nobody_answered_in_time_is_told_before_the_failure(airflow: StagedAirflow, run: Run) -> None:
    asked_meanwhile(airflow, run, responded_at=None, chosen_options=None)
    ends(airflow, run, "failed")

    assert tick(10)

    assert story(run)[1:] == ["task.started extract 1", BOTH[0], "task.failed extract 1"]
    assert question_of(run)["answer"] is None


def test_an_answer_of_another_clock_stays_before_the_end(airflow: StagedAirflow, run: Run) -> None:
    asked_meanwhile(airflow, run, created_at=iso(1), responded_at=iso(9), chosen_options=["No"])
    ends(airflow, run, "success")

    assert tick(10)

    assert story(run)[1:] == ["task.started extract 1", *BOTH, "task.completed extract 1"]


@pytest.mark.parametrize(
    ("operator", "requests"),
    [("ApprovalOperator", 1), ("OurApproval", 1), ("_PythonDecoratedOperator", 0), ("EmptyOperator", 0)],
)
def test_airflow_is_asked_once_after_tasks_that_can_have_asked(
    airflow: StagedAirflow, run: Run, operator: str, requests: int
) -> None:
    airflow.answers[LISTED] = paged("hitl_details", [])
    ends(airflow, run, "success", operator=operator)

    assert tick(10)
    assert tick(12)

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1"]
    assert asked(airflow) == requests


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_question_that_cannot_be_read_afterwards_does_not_hold_up_the_end(
    airflow: StagedAirflow, run: Run, status: int
) -> None:
    airflow.answers[LISTED] = refuse(status)
    ends(airflow, run, "success")

    assert tick(10)

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1"]


def test_a_question_of_an_earlier_execution_is_not_told(airflow: StagedAirflow, run: Run) -> None:
    asked_meanwhile(airflow, run)
    ends(airflow, run, "success")
    of_earlier = {**detail(airflow, run), "task_instance": {**detail(airflow, run)["task_instance"], "id": "id-0"}}
    airflow.answers[LISTED] = paged("hitl_details", [of_earlier])

    assert tick(10)

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1"]


@pytest.mark.parametrize("asks", [True, False, None])
def test_a_pushed_end_of_a_task_that_asks_reads_its_question_first(
    airflow: StagedAirflow, run: Run, asks: bool | None
) -> None:
    airflow.answers[LISTED] = paged("hitl_details", [])
    airflow.put_task(run, "extract", "running", start=2, id="id-1")
    assert tick(3)
    asked_meanwhile(airflow, run)
    record = {"kind": "task", "at": iso(6), "id": "id-1", "dag_id": run.dag_id, "dag_run_id": run.dag_run_id}
    times = {"start_date": iso(2), "end_date": iso(6), "max_tries": 0, "state": "success", "try_number": 1}
    pushed = {**record, "task_id": "extract", "map_index": -1, **times}

    push.receive(DEFAULT, [pushed if asks is None else {**pushed, "asks": asks}], now=at(6))
    ends(airflow, run, "success")
    assert tick(10)

    # The plugin of an earlier version does not say who asks.
    assert story(run)[2:] == [*(BOTH if asks else []), "task.completed extract 1"]
