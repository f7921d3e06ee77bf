"""Tasks that wait for a person: what they ask, and what the answer was. Airflow lists both beside its tasks.

Airflow is asked once for each question and once for each answer, and a poll waits at most `LONGEST_WAIT` seconds
for it. A question that is asked and answered between two polls is read when its task has ended. A question that cannot
be read is recorded without its text, and the sweep asks again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from rest.times import iso
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowError, AirflowNotFoundError
from workflows.eventlog import events
from workflows.models import Run, TaskInstance
from workflows.states import OPEN, TASK_TRY_ENDED, RunState
from workflows.storable import storable
from workflows.watch import executions
from workflows.watch.known import Key, named, names_of, tasks_of

logger = logging.getLogger(__name__)

LONGEST_WAIT = 2.0
LONGEST_SUBJECT, LONGEST_BODY = 1_000, 10_000
# Operators of Airflow's own that nearly all tasks are of.
NEVER_ASK = frozenset(
    {"PythonOperator", "_PythonDecoratedOperator", "BashOperator", "_BashDecoratedOperator", "EmptyOperator"}
    | {"BranchPythonOperator", "ShortCircuitOperator", "TriggerDagRunOperator"}
)
# A task of Airflow 3.1 and 3.2 that waits for a person is deferred, like many others.
WAITING = frozenset({"awaiting_input", "deferred"})


def ask(client: AirflowClient, *, now: datetime) -> None:
    """Read what the tasks ask that have begun to wait since the last poll, and record it."""
    _ask(client, _waiting(client).filter(question__isnull=True), now=now)


def ask_again(client: AirflowClient, *, now: datetime) -> None:
    """Read the questions that a poll could not read."""
    _ask(client, _waiting(client).filter(question={}), now=now)


def _waiting(client: AirflowClient) -> QuerySet[TaskInstance]:
    states = Q(state="awaiting_input")
    open_runs = Q(run__airflow__name=client.name, run__state__in=OPEN - {RunState.STOPPING})
    in_open_runs = TaskInstance.objects.filter(open_runs, state__in=WAITING)
    if in_open_runs.filter(state="deferred").exists() and client.version().startswith(("3.1", "3.2")):
        states |= Q(state="deferred")
    return in_open_runs.filter(states).select_related("run")


def _ask(client: AirflowClient, waiting: Iterable[TaskInstance], *, now: datetime) -> None:
    tasks = list(waiting)
    if not tasks:
        return
    found: list[types.Question] = []
    try:
        with client.within(LONGEST_WAIT):
            found = client.tasks.questions(
                dag_ids={task.run.dag_id for task in tasks}, states={task.state for task in tasks}
            )
    except AirflowError as exc:
        logger.warning("no questions", extra={"tasks": len(tasks), "error": str(exc)})
    asked = {(question.task.ref, question.task.id): question for question in found}
    for task in tasks:
        ref = types.TaskRef(
            dag_id=task.run.dag_id, dag_run_id=task.run.dag_run_id, task_id=task.task_id, map_index=task.map_index
        )
        record_question(task, asked.get((ref, task.instance_id)), now=now)


@transaction.atomic
def record_question(task: TaskInstance, asked: types.Question | None, *, now: datetime) -> None:
    """Record that the task waits for a person, once, and what it asks, as soon as that is known."""
    run = Run.objects.select_for_update().get(pk=task.run_id)
    task = run.tasks.get(pk=task.pk)
    if run.state not in OPEN or task.state not in WAITING or task.question:
        return
    is_first = task.question is None if task.state == "awaiting_input" else asked is not None
    task.question = _stored(asked) if asked else {}
    task.save(update_fields=["question"])
    if is_first:
        data = events.TaskAwaitingInput(**_fields_of(task), **_shown(task.question))
        at = asked.asked_at if asked and asked.asked_at else now
        events.record(data, now=at, run=run, task_id=task.task_id)


def _stored(asked: types.Question) -> dict[str, Any]:
    """Return the question as it is stored. It comes from the DAG's author, so it may have any length."""
    question: dict[str, Any] = storable(
        {
            "subject": asked.subject[:LONGEST_SUBJECT],
            "body": asked.body[:LONGEST_BODY],
            "options": list(asked.options),
            "defaults": list(asked.defaults),
            "multiple": asked.multiple,
            "params": dict(asked.params),
            "respondents": list(asked.respondents),
            "asked_at": iso(asked.asked_at) if asked.asked_at else None,
            "answer": None,
        }
    )
    return question


def _shown(question: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the event."""
    unknown = {"subject": "", "body": "", "options": [], "defaults": [], "multiple": False, "params": {}}
    known = {**unknown, "respondents": [], **question}
    return {name: known[name] for name in (*unknown, "respondents")}


def _fields_of(task: TaskInstance) -> dict[str, Any]:
    return {
        "state": task.state,
        "map_index": task.map_index,
        "try_number": task.try_number,
        "instance_id": task.instance_id or None,
    }


# --- Answers -----------------------------------------------------------------------------------------------


def read_answers(
    client: AirflowClient, run: Run, known: Iterable[TaskInstance], observed: Sequence[types.TaskInstance]
) -> None:
    """Read and record the answers of those observed tasks that no longer wait. `known` are their rows."""
    asked = [task for task in known if task.question is not None and task.awaits_person]
    if not asked:
        return
    for seen, task in executions.pair(run, known, observed):
        if task in asked and executions.is_same(task, seen) and (seen.state or "") not in WAITING:
            _read_answer(client, run, task)


def _read_answer(client: AirflowClient, run: Run, task: TaskInstance) -> None:
    try:
        with client.within(LONGEST_WAIT):
            answered = client.tasks.question(run.dag_id, run.dag_run_id, task.task_id, map_index=task.map_index)
    except AirflowError as exc:
        logger.warning("no answer", extra={"run_id": str(run.pk), "task": str(task), "error": str(exc)})
    else:
        if answered.answered_at and answered.task.id == task.instance_id:
            record_answer(task, answered, at=answered.answered_at)


@transaction.atomic
def record_answer(task: TaskInstance, answered: types.Question, *, at: datetime) -> None:
    """Record the answer to the task's question, once."""
    run = Run.objects.select_for_update().get(pk=task.run_id)
    task = run.tasks.get(pk=task.pk)
    if task.question is None or task.question.get("answer") or run.state not in OPEN:
        return
    task.question = {**(task.question or _stored(answered)), "answer": _answer_of(answered, at=at)}
    task.save(update_fields=["question"])
    events.record(_received(task, state=task.state), now=at, run=run, task_id=task.task_id)


def _answer_of(answered: types.Question, *, at: datetime) -> dict[str, Any]:
    answer = storable({"chosen": list(answered.chosen), "params": dict(answered.params_input)})
    return {**answer, "by": storable(answered.answered_by), "at": iso(at)}


def _received(task: TaskInstance, *, state: str) -> events.TaskInputReceived:
    answer = (task.question or {})["answer"]
    fields = {**_fields_of(task), "state": state}
    return events.TaskInputReceived(**fields, chosen=answer["chosen"], params=answer["params"], by=answer["by"])


# --- Questions that no poll has shown ----------------------------------------------------------------------


def missed(
    client: AirflowClient, ours: Mapping[Key, Run], tasks: Mapping[Key, Sequence[types.TaskInstance]], *, pushed: bool
) -> dict[str, types.Question]:
    """Return what tasks that have just ended had asked since the last poll, by the id of the task instance.

    One request for all of them, and none if they are of operators that never ask.
    """
    able = {key: [seen for seen in of_run if _can_have_asked(seen, pushed=pushed)] for key, of_run in tasks.items()}
    runs = {key: ours[key] for key, of_run in able.items() if of_run}
    known = tasks_of(runs.values(), {run.pk: named(names_of(able[key])) for key, run in runs.items()})
    pairs = [pair for key, run in runs.items() for pair in executions.pair(run, known[run.pk], able[key])]
    ended = [seen for seen, task in pairs if _is_news(task, seen)]
    starts = [seen.start_date for seen in ended if seen.start_date]
    if not starts:
        return {}
    try:
        with client.within(LONGEST_WAIT):
            since = min(starts) - timedelta(seconds=settings.RECONCILE_OVERLAP)
            found = client.tasks.questions_since(since, dag_ids={seen.dag_id for seen in ended})
    except AirflowNotFoundError:
        return {}  # Airflow 3.0
    except AirflowError as exc:
        logger.warning("no questions", extra={"tasks": len(ended), "error": str(exc)})
        return {}
    ids = {seen.id for seen in ended}
    return {asked.task.id: asked for asked in found if asked.task.id and asked.task.id in ids}


def _can_have_asked(seen: types.TaskInstance, *, pushed: bool) -> bool:
    """Return whether the task has ended and is of an operator that may ask. 2.11 gives no id."""
    if not seen.id or seen.state not in TASK_TRY_ENDED or seen.start_date is None or seen.never_ran:
        return False
    return seen.asks if pushed else seen.operator not in NEVER_ASK


def _is_news(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether the end of the task is news, and no question of this execution is known."""
    is_known = task.question is not None or task.state in TASK_TRY_ENDED
    return not (executions.is_same(task, seen) and is_known)


def with_answer(asked: types.Question) -> dict[str, Any]:
    """Return the question as it is stored, with its answer."""
    answer = _answer_of(asked, at=asked.answered_at) if asked.answered_at else None
    return {**_stored(asked), "answer": answer}


def told_late(task: TaskInstance, asked: types.Question) -> Iterator[tuple[datetime | None, events.TaskEventData]]:
    """Yield the events of a question, and of its answer if there is one, with Airflow's times. The task has ended."""
    fields = {**_fields_of(task), "state": "awaiting_input"}
    yield asked.asked_at, events.TaskAwaitingInput(**fields, **_shown(task.question or {}))
    if asked.answered_at:
        yield asked.answered_at, _received(task, state="awaiting_input")
