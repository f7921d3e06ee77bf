"""Why a run makes no progress or has failed, in plain words, and who can do what about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args

from django.db.models import F
from django.utils import timezone

from rest.masking import mask
from workflows import gateway, task_logs
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowError, AirflowForbiddenError
from workflows.deeds import Deed
from workflows.lifecycle import deletions
from workflows.lifecycle.moves import why_not_retriable
from workflows.models import Airflow, AirflowCommand, CommandKind, Run, TaskInstance
from workflows.states import TASK_AT_WORK, TASK_STARTED, TERMINAL, RunState

# Airflow calls a scheduler unhealthy after 30 s by default; its own health then says so too.
HEARTBEAT_LIMIT = timedelta(seconds=30)
# The logs of so many failed tasks are read for the error. Further failed tasks are only named.
LOGS_ASKED = 3
# Airflow writes a mark into its audit log, and then gives the run and its tasks their ends.
MARK_TAKES = timedelta(seconds=10)

Who = Literal["nobody", "you", "operator", "author", "respondent"]
WHO: tuple[Who, ...] = get_args(Who)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """`code` is for programs. `who` can act: the caller (`you`), an `operator`, the DAG's `author`, or `nobody`.

    A `respondent` is somebody who may answer, in Airflow, what a task asks.
    """

    code: str
    reason: str
    who: Who
    action: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What Airflow answers about the surroundings of the run. `error` says why there is no answer."""

    health: types.Health | None = None
    pools: dict[str, types.Pool] = field(default_factory=dict)
    active_runs: int = 0
    error: str = ""


def explain(run: Run, *, now: datetime, may_retry: bool, may_see_logs: bool) -> list[Reason]:
    """Return the reasons, the most direct first. If nothing holds the run up, one reason says so.

    `may_retry` and `may_see_logs` say what the caller may do with the run.
    """
    if run.state in TERMINAL:
        marks = _marks(run)
        failures = [*_timed_out(run), *_failures(run, marks, may_see_logs=may_see_logs)]
        ended = _ended(run, names_task=bool(failures), may_retry=may_retry)
        return [*_marked(run, marks), *failures, ended]
    reasons = list(_here(run, now=now))
    is_asked = not any(reason.code == "airflow_inactive" for reason in reasons)
    if is_asked and (not reasons or run.state != RunState.PENDING):
        around = _look(run)
        if around.error and not any(reason.code == "airflow_down" for reason in reasons):
            reasons.append(_down(run.airflow_name, around.error))
        reasons += _in_airflow(run, around, now=now)
    return reasons or [_reason("progressing", _progress(run), "nobody", "Wait.")]


def _reason(code: str, reason: str, who: Who, action: str) -> Reason:
    return Reason(code=code, reason=mask(reason), who=who, action=mask(action))


# --- At its end -------------------------------------------------------------------------------------------


def _marks(run: Run) -> list[types.Mark]:
    """Return what people have marked in Airflow since a failed run began, or in it, the latest first."""
    begun = run.started_at or run.queued_at
    if run.state != RunState.FAILED or run.ended_at is None or begun is None or not gateway.answers(run.airflow_name):
        return []
    try:
        with gateway.watched(run.airflow_name, hurried=True) as client:
            marks = client.runs.marks(run.dag_id, run.dag_run_id)
    except AirflowError:
        return []
    return [mark for mark in marks if mark.at >= begun]


def _marked(run: Run, marks: Sequence[types.Mark]) -> Iterator[Reason]:
    """Yield that somebody has ended the run by hand. A mark after its own end counts if it changed the state."""
    mark = next((one for one in marks if one.task_id is None), None)
    if mark is None or mark.state != run.state or run.ended_at is None:
        return
    if mark.at <= run.ended_at + MARK_TAKES or run.events.filter(data__change="marked").exists():
        by = mark.by or "somebody"
        text = f"It was marked {mark.state} in Airflow at {mark.at:%Y-%m-%d %H:%M:%S} UTC, by {by}."
        yield _reason("marked", text, "operator", f"Ask {by} why, or retry the run.")


def _marked_by(task: TaskInstance, marks: Sequence[types.Mark]) -> str | None:
    """Return who has marked the task failed, if that was its end."""
    if task.map_index >= 0 or task.ended_at is None:
        return None
    at_end = (mark for mark in marks if abs(mark.at - task.ended_at) <= MARK_TAKES)
    mark = next((one for one in at_end if (one.task_id, one.state) == (task.task_id, "failed")), None)
    return (mark.by or "somebody") if mark else None


def _failures(run: Run, marks: Sequence[types.Mark], *, may_see_logs: bool) -> Iterator[Reason]:
    """Yield each failed task of a failed run, in the order in which they failed, with the error in its log."""
    if run.state != RunState.FAILED:
        return
    failed = list(run.tasks.filter(state="failed").order_by(F("ended_at").asc(nulls_last=True), "id"))
    for n, task in enumerate(failed):
        if by := _marked_by(task, marks):
            text = f"{task} was marked failed in Airflow by {by}."
            yield _reason("task_marked", text, "operator", f"Ask {by} why, or retry the run.")
            continue
        error = _error_of(run, task) if may_see_logs and n < LOGS_ASKED and gateway.answers(run.airflow_name) else ""
        tries = f"on try {task.try_number} of {max(task.max_tries + 1, task.try_number)}"
        text = f"{task} failed {tries}" + (f": {error}" if error else ".")
        yield _reason("task_failed", text, "author", "Read its log and fix the cause.")


def _timed_out(run: Run) -> Iterator[Reason]:
    """Yield that the run reached its DAG's `dagrun_timeout`, and which tasks this has cut off."""
    if run.state != RunState.FAILED or not run.started_at or not run.ended_at or not gateway.answers(run.airflow_name):
        return
    cut = [task for task in run.tasks.all() if _was_cut_off(task, run.ended_at)]
    limit = _run_timeout(run) if cut else None
    took = run.ended_at - run.started_at
    if limit is None or took < limit:
        return
    begun = [str(task) for task in cut if task.started_at and task.started_at != task.ended_at]
    waiting = [str(task) for task in cut if str(task) not in begun]
    text = (
        f"The run reached the dagrun_timeout of its DAG, {limit}: Airflow ended it after {took.total_seconds():.0f} s."
    )
    text += f" Cut off: {', '.join(begun)}." if begun else ""
    text += f" Never started: {', '.join(waiting)}." if waiting else ""
    yield _reason("run_timeout", text, "author", "Make the tasks faster, or raise dagrun_timeout.")


def _was_cut_off(task: TaskInstance, ended_at: datetime) -> bool:
    """Return whether the end of the run has ended the task. Airflow gives such a task no end, or a later one."""
    return task.state in {"skipped", "failed"} and (task.ended_at is None or task.ended_at >= ended_at)


def _run_timeout(run: Run) -> timedelta | None:
    try:
        with gateway.watched(run.airflow_name, hurried=True) as client:
            return client.dags.get(run.dag_id).run_timeout
    except AirflowError:
        return None


def _error_of(run: Run, task: TaskInstance) -> str:
    try:
        return task_logs.last_error(run, task, now=timezone.now())
    except AirflowError:
        return ""


def _ended(run: Run, *, names_task: bool, may_retry: bool) -> Reason:
    """Return that the run has ended and whether it can be retried. Without a named failed task, say why it failed."""
    said = f" ({run.state_reason})" if run.state == RunState.FAILED and run.state_reason and not names_task else ""
    text = f"The run has ended: {run.state}{said}."
    if deletions.was_deleted(run):
        text += " It was deleted in Airflow since, with its logs."
        return _reason("ended", text, "you", "Trigger a new run: this one cannot be retried.")
    if hindrance := why_not_retriable(run):
        return _reason("ended", text, "operator", f"It cannot be retried. {hindrance}")
    if run.queued_at is None:
        action = "Trigger a new run: Airflow never had this one, so nothing can be retried."
        return _reason("ended", text, "you", action)
    if not may_retry:
        return _reason("ended", text, "operator", "Ask somebody who may control it to retry it.")
    if run.state == RunState.SUCCESS:
        return _reason("ended", text, "you", "To run it again, retry all of it or from a task on.")
    return _reason("ended", text, "you", "Retry the failed tasks and what follows them (mode failed), or all of it.")


# --- On our side -------------------------------------------------------------------------------------------


def _here(run: Run, *, now: datetime) -> Iterator[Reason]:
    state = Airflow.named(run.airflow_name)
    if run.state == RunState.PENDING and run.paused:
        yield _reason("held", "The run is paused before its start.", "you", "Resume it.")
    if run.state == RunState.PENDING and run.run_at and run.run_at > now:
        yield _reason("scheduled", f"It starts at {run.run_at:%Y-%m-%d %H:%M:%S} UTC.", "nobody", "Wait, or stop it.")
    if not state.is_active:
        text = f"Its Airflow, {state.name}, is not active: nothing is asked of it."
        yield _reason("airflow_inactive", text, "operator", "Activate it, or stop the run.")
    elif not state.reachable:
        yield _down(state.name, state.last_error)
    elif state.is_stale(now):
        yield _reason(
            "not_watched",
            f"{Airflow.called(state.name)} was not polled lately.",
            "operator",
            "Start the worker and beat.",
        )
    for command in AirflowCommand.objects.pending().filter(run=run).exclude(last_error=""):
        yield _failing(command)


def _down(airflow: str, error: str) -> Reason:
    action = "Bring Airflow back. manage.py doctor says whether our address or credentials are wrong."
    return _reason("airflow_down", f"{Airflow.called(airflow)} does not answer: {error}.", "operator", action)


def _failing(command: AirflowCommand) -> Reason:
    what = {
        CommandKind.TRIGGER: "start",
        CommandKind.STOP: "stop",
        CommandKind.CLEAR: "retry",
        CommandKind.RESULT: "give the result of",
    }
    verb = what.get(CommandKind(command.kind), command.kind)
    attempts = "1 attempt" if command.attempts == 1 else f"{command.attempts} attempts"
    text = f"Airflow did not {verb} it in {attempts} so far: {command.last_error}."
    return _reason("not_handed_over", text, "operator", f"The next attempt is at {command.due_at:%H:%M:%S} UTC.")


# --- In Airflow --------------------------------------------------------------------------------------------


def _look(run: Run) -> Surroundings:
    try:
        with gateway.watched(run.airflow_name, hurried=True) as client:
            active = client.runs.list(dag_ids=[run.dag_id], states=("running",))
            pools = {pool.name: pool for pool in _pools(client)}
            return Surroundings(health=client.health(), pools=pools, active_runs=len(active))
    except AirflowError as exc:
        return Surroundings(error=str(exc))


def _pools(client: AirflowClient) -> list[types.Pool]:
    try:
        return client.pools()
    except AirflowForbiddenError:
        return []  # full pools are then not named as a reason


def _in_airflow(run: Run, around: Surroundings, *, now: datetime) -> Iterator[Reason]:
    dag = run.dag
    if run.logical_date and run.logical_date > now:
        text = f"Airflow starts none of its tasks before its logical date, {run.logical_date:%Y-%m-%d %H:%M:%S} UTC."
        yield _reason("logical_date", text, "nobody", "Wait, or stop it.")
    if dag.refused:
        action = "Give it the right in Airflow; manage.py doctor names it."
        yield _reason("refused", f"{dag.dag_id}: {dag.refused_reason}", "operator", action)
    if not dag.is_present and Deed.SEE not in dag.refused:
        yield _reason("dag_gone", f"Airflow does not have the DAG {dag.dag_id} any more.", "author", "Bring it back.")
    if dag.import_error:
        yield _reason("import_error", f"Airflow cannot import the file of {dag.dag_id}.", "author", "Fix the file.")
    if dag.is_paused:
        at_work = [str(task) for task in run.tasks.all() if task.state in TASK_AT_WORK]
        goes_on = f" Tasks that had started go on: {', '.join(at_work)}." if at_work else ""
        yield _reason("dag_paused", f"The DAG {dag.dag_id} is paused.{goes_on}", "you", "Resume the workflow.")
    if around.health:
        yield from _sick(around.health, now=now)
        yield from _untriggered(run, around.health, now=now)
    if run.state == RunState.QUEUED and around.active_runs >= dag.max_active_runs:
        # Not how many: some may be hidden from the caller.
        text = f"As many runs of {dag.dag_id} are running as max_active_runs allows: {dag.max_active_runs}."
        yield _reason("max_active_runs", text, "author", "Wait for one to end, or raise max_active_runs.")
    yield from _waiting_tasks(run, around)
    if run.state == RunState.STOPPING:
        yield _reason("stopping", "Not all of its tasks are known to have ended.", "nobody", "Wait.")


def _sick(health: types.Health, *, now: datetime) -> Iterator[Reason]:
    beat = health.scheduler.latest_heartbeat
    if health.scheduler.status != "healthy" or (beat and now - beat > HEARTBEAT_LIMIT):
        age = f", its last heartbeat was at {beat:%H:%M:%S} UTC" if beat else ""
        yield _reason("scheduler_down", f"Airflow's scheduler is not running{age}.", "operator", "Start the scheduler.")


def _untriggered(run: Run, health: types.Health, *, now: datetime) -> Iterator[Reason]:
    """Yield that deferred tasks wait for a triggerer that does not run."""
    deferred = [str(task) for task in run.tasks.all() if task.state == "deferred"]
    beat = health.triggerer.latest_heartbeat
    is_alive = health.triggerer.status == "healthy" and not (beat and now - beat > HEARTBEAT_LIMIT)
    if not deferred or is_alive:
        return
    age = f": its last heartbeat was at {beat:%H:%M:%S} UTC" if beat else ""
    text = f"{', '.join(deferred)}: deferred to Airflow's triggerer, and none is running{age}."
    yield _reason("triggerer_down", text, "operator", "Start a triggerer.")


def _waiting_tasks(run: Run, around: Surroundings) -> Iterator[Reason]:
    pool_of = {task["task_id"]: task.get("pool") for task in run.dag.tasks}
    for task in run.tasks.all():
        pool = around.pools.get(pool_of.get(task.task_id) or "")
        if task.awaits_person:
            yield _question(task)
        elif task.state == "up_for_retry":
            yield _reason("up_for_retry", f"{task} has failed and waits for its next try.", "nobody", "Wait.")
        elif task.state in {"scheduled", "queued"} and pool and pool.open_slots == 0:
            text = f"{task} waits for a slot: all {pool.slots} of the pool {pool.name} are taken."
            yield _reason("pool_full", text, "operator", "Wait for one, or enlarge the pool.")
        elif task.state == "queued":
            yield _reason("task_queued", f"{task} waits for a worker.", "operator", "Wait, or add workers.")


def _question(task: TaskInstance) -> Reason:
    question = task.question or {}
    text = f"{task} waits for a person to answer"
    if not question:
        return _reason("awaiting_input", f"{text}.", "respondent", "Answer it in Airflow.")
    text += f": {question['subject']} Options: {', '.join(question['options'])}."
    who = ", ".join(question["respondents"])
    action = f"Answer it in Airflow. Only these accounts may: {who}." if who else "Answer it in Airflow."
    return _reason("awaiting_input", text, "respondent", action)


def _progress(run: Run) -> str:
    deferred = [str(task) for task in run.tasks.all() if task.state == "deferred"]
    running = [str(task) for task in run.tasks.all() if task.state in TASK_STARTED - {"deferred"}]
    if running or deferred:
        text = f" Running: {', '.join(running)}." if running else ""
        text += f" Deferred until their trigger fires: {', '.join(deferred)}." if deferred else ""
        return f"Nothing holds it up.{text}"
    return "Nothing holds it up: the scheduler picks it up next."
