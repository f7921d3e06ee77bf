"""Why a run makes no progress or has failed, in plain words, and who can do what about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import F

from workflows import task_logs, upstream
from workflows.airflow import types
from workflows.airflow.errors import AirflowError
from workflows.models import AirflowCommand, AirflowState, CommandKind, Run, TaskInstance
from workflows.services.runs import why_not_triggerable
from workflows.states import TASK_STARTED, TERMINAL, RunState

# Airflow calls a scheduler unhealthy after 30 s by default; its own health then says so too.
HEARTBEAT_LIMIT = timedelta(seconds=30)
# Of so many failed tasks the logs are asked for what went wrong; the others are named.
LOGS_ASKED = 3

Who = Literal["nobody", "you", "operator", "author"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """`code` is for programs; `who` can act: the caller (`you`), an `operator`, the DAG's `author`, or `nobody`."""

    code: str
    reason: str
    who: Who
    action: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is asked of Airflow, once; `error` says why there is no answer."""

    health: types.Health | None = None
    pools: dict[str, types.Pool] = field(default_factory=dict)
    active_runs: int = 0
    error: str = ""


def explain(run: Run, *, now: datetime, may_retry: bool, may_see_logs: bool) -> list[Reason]:
    """The reasons, the nearest first; one that says all is well when nothing holds the run up.

    `may_retry` and `may_see_logs` tell what the caller may do with the run.
    """
    if run.state in TERMINAL:
        failures = list(_failures(run, may_see_logs=may_see_logs))
        return [*failures, _ended(run, names_task=bool(failures), may_retry=may_retry)]
    reasons = list(_here(run, now=now))
    if not reasons or run.state != RunState.PENDING:
        around = _look(run)
        if around.error and not any(reason.code == "airflow_down" for reason in reasons):
            reasons.append(_down(around.error))
        reasons += _in_airflow(run, around, now=now)
    return reasons or [_reason("progressing", _progress(run), "nobody", "Wait.")]


def _reason(code: str, reason: str, who: Who, action: str) -> Reason:
    return Reason(code=code, reason=reason, who=who, action=action)


# --- At its end -------------------------------------------------------------------------------------------


def _failures(run: Run, *, may_see_logs: bool) -> Iterator[Reason]:
    """Each failed task of a failed run, the first to fail first, with what its log says went wrong."""
    if run.state != RunState.FAILED:
        return
    failed = list(run.tasks.filter(state="failed").order_by(F("ended_at").asc(nulls_last=True), "id"))
    for n, task in enumerate(failed):
        error = _error_of(run, task) if may_see_logs and n < LOGS_ASKED and upstream.answers() else ""
        tries = f"on its try {task.try_number} of {max(task.max_tries + 1, task.try_number)}"
        text = f"{task} has failed {tries}" + (f": {error}" if error else ".")
        yield _reason("task_failed", text, "author", "Read its log and mend the cause.")


def _error_of(run: Run, task: TaskInstance) -> str:
    try:
        with upstream.watched() as client:
            return task_logs.error_in(client, run, task)
    except AirflowError:
        return ""


def _ended(run: Run, *, names_task: bool, may_retry: bool) -> Reason:
    """That it is over, with the reason where no failed task has been named for it, and whether it can be retried."""
    said = f" ({run.state_reason})" if run.state == RunState.FAILED and run.state_reason and not names_task else ""
    text = f"The run has ended: {run.state}{said}."
    if hindrance := why_not_triggerable(run.workflow):
        return _reason("ended", text, "operator", f"It can not be retried. {hindrance}")
    if run.queued_at is None:
        action = "Trigger another one: Airflow never had this one, so nothing can be retried."
        return _reason("ended", text, "you", action)
    if not may_retry:
        return _reason("ended", text, "operator", "Ask somebody who may control it to retry it.")
    if run.state == RunState.SUCCESS:
        return _reason("ended", text, "you", "Retry it, all of it or from a task on, if it should run again.")
    return _reason("ended", text, "you", "Retry it: what has failed and what follows (mode failed), or all of it.")


# --- On our side -------------------------------------------------------------------------------------------


def _here(run: Run, *, now: datetime) -> Iterator[Reason]:
    state = AirflowState.current()
    if run.state == RunState.PENDING and run.paused:
        yield _reason("held", "The run is paused before its start.", "you", "Resume it.")
    if run.state == RunState.PENDING and run.run_at and run.run_at > now:
        yield _reason(
            "scheduled", f"It is to start at {run.run_at:%Y-%m-%d %H:%M:%S} UTC.", "nobody", "Wait, or stop it."
        )
    if not state.reachable:
        yield _down(state.last_error)
    elif state.is_stale(now):
        yield _reason("not_watched", "Airflow was not looked at lately.", "operator", "Start the worker and beat.")
    for command in run.commands.filter(finished_at__isnull=True).exclude(last_error=""):
        yield _failing(command)


def _down(error: str) -> Reason:
    return _reason("airflow_down", f"Airflow does not answer: {error}.", "operator", "Bring Airflow back.")


def _failing(command: AirflowCommand) -> Reason:
    what = {CommandKind.TRIGGER: "start", CommandKind.STOP: "stop", CommandKind.CLEAR: "retry"}
    verb = what.get(CommandKind(command.kind), command.kind)
    text = f"Airflow could not be told to {verb} it, {command.attempts} times so far: {command.last_error}."
    return _reason("not_handed_over", text, "operator", f"It is tried again at {command.due_at:%H:%M:%S} UTC.")


# --- In Airflow --------------------------------------------------------------------------------------------


def _look(run: Run) -> Surroundings:
    try:
        with upstream.watched(hurried=True) as client:
            active = client.runs.list(dag_ids=[run.dag_id], states=("running",))
            pools = {pool.name: pool for pool in client.pools()}
            return Surroundings(health=client.health(), pools=pools, active_runs=len(active))
    except AirflowError as exc:
        return Surroundings(error=str(exc))


def _in_airflow(run: Run, around: Surroundings, *, now: datetime) -> Iterator[Reason]:
    dag = run.workflow.dag
    if not dag.is_present:
        yield _reason("dag_gone", f"Airflow does not have the DAG {dag.dag_id} any more.", "author", "Bring it back.")
    if dag.import_error:
        yield _reason("import_error", f"Airflow can not import {dag.fileloc}.", "author", "Mend the file.")
    if dag.is_paused:
        yield _reason("dag_paused", f"The DAG {dag.dag_id} is paused.", "you", "Resume the workflow.")
    if around.health:
        yield from _sick(around.health, now=now)
    if run.state == RunState.QUEUED and around.active_runs >= dag.max_active_runs:
        text = f"{around.active_runs} runs of {dag.dag_id} are at work and no more than {dag.max_active_runs} may be."
        yield _reason("max_active_runs", text, "author", "Wait for one to end, or raise max_active_runs.")
    yield from _waiting_tasks(run, around)
    if run.state == RunState.STOPPING:
        yield _reason("stopping", "Its tasks have not all been seen to be over.", "nobody", "Wait.")


def _sick(health: types.Health, *, now: datetime) -> Iterator[Reason]:
    beat = health.scheduler.latest_heartbeat
    if health.scheduler.status != "healthy" or (beat and now - beat > HEARTBEAT_LIMIT):
        age = f", its last heartbeat was at {beat:%H:%M:%S} UTC" if beat else ""
        yield _reason("scheduler_down", f"Airflow's scheduler is not at work{age}.", "operator", "Start the scheduler.")


def _waiting_tasks(run: Run, around: Surroundings) -> Iterator[Reason]:
    pool_of = {task["task_id"]: task.get("pool") for task in run.workflow.dag.tasks}
    for task in run.tasks.all():
        pool = around.pools.get(pool_of.get(task.task_id) or "")
        if task.state == "up_for_retry":
            yield _reason("up_for_retry", f"{task} has failed and waits for its next try.", "nobody", "Wait.")
        elif task.state in {"scheduled", "queued"} and pool and pool.open_slots == 0:
            text = f"{task} waits for a slot: all {pool.slots} of the pool {pool.name} are taken."
            yield _reason("pool_full", text, "operator", "Wait for one, or enlarge the pool.")
        elif task.state == "queued":
            yield _reason("task_queued", f"{task} waits for a worker.", "operator", "Wait, or add workers.")


def _progress(run: Run) -> str:
    at_work = [str(task) for task in run.tasks.all() if task.state in TASK_STARTED]
    if at_work:
        return f"Nothing holds it up: {', '.join(at_work)} at work."
    return "Nothing holds it up: the scheduler will take it up next."
