"""What is stored of the runs that a poll or push names, and of their task instances: no more than it names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from uuid import UUID

from django.db.models import Q, prefetch_related_objects

from workflows.airflow import types
from workflows.dispatch import commands
from workflows.models import Run, RunAttempt, TaskInstance, Workflow
from workflows.states import TASK_ALIVE, RunState
from workflows.watch.executions import UNMAPPED, Name, Tasks
from workflows.watch.observation import Observation
from workflows.watch.recorded import History

# How a run is named in its Airflow: (dag_id, dag_run_id).
Key = tuple[str, str]

Item = TypeVar("Item")

# How many alternatives a condition has at most. SQLite takes 1,000.
AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is stored of one run, read in the transaction that has locked it.

    `tasks` are those that the observation names and those that decide what follows from it: all of them if the run has
    ended in Airflow, and those at work in a stop. `waits_for_clear` is true until a clear of ours is dispatched.
    `result_task` is read if the run has succeeded in Airflow.
    """

    run: Run
    tasks: Tasks
    history: History
    last_attempt: RunAttempt | None
    waits_for_clear: bool
    result_task: str


def runs_of(airflow: str, keys: Collection[Key]) -> dict[Key, Run]:
    """Return our runs among these runs of an Airflow."""
    found: dict[Key, Run] = {}
    for few in batches(sorted(keys), AT_ONCE):
        ids: dict[str, list[str]] = defaultdict(list)
        for dag_id, dag_run_id in few:
            ids[dag_id].append(dag_run_id)
        # Each alternative names its DAG, because the index of the runs begins with it.
        named = Q(*[Q(dag_id=dag_id, dag_run_id__in=of_dag) for dag_id, of_dag in ids.items()], _connector=Q.OR)
        found |= {
            (run.dag_id, run.dag_run_id): run for run in Run.objects.filter(named, airflow__name=airflow).order_by()
        }
    return found


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in their order, so many at a time. `itertools.batched` is not in Python 3.11."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def names_of(tasks: Iterable[types.TaskInstance]) -> set[Name]:
    return {(task.task_id, task.map_index) for task in tasks}


def tasks_of(runs: Iterable[Run], conditions: Mapping[UUID, Q]) -> dict[UUID, Tasks]:
    """Return the task instances of these runs that fulfil the condition of their run."""
    by_pk = {run.pk: run for run in runs if run.pk in conditions}
    same: dict[Q, list[UUID]] = defaultdict(list)
    for pk in by_pk:
        same[conditions[pk]].append(pk)
    found: dict[UUID, list[TaskInstance]] = defaultdict(list)
    for few in batches(same.items(), AT_ONCE):
        wanted = Q(*[Q(run__in=pks) & condition for condition, pks in few], _connector=Q.OR)
        # Sorted here: asked for an order, SQLite would read all instances of the run along another index.
        for row in sorted(TaskInstance.objects.filter(wanted).order_by(), key=lambda row: row.pk):
            row.run = by_pk[row.run_id]
            found[row.run_id].append(row)
    return {pk: Tasks(found[pk]) for pk in by_pk}


def named(names: Collection[Name]) -> Q:
    """Return the condition that an instance has one of these names. It may hold for a few others."""
    task_ids = sorted({task_id for task_id, _ in names})
    indexes = sorted({UNMAPPED} | {index for _, index in names})
    return Q(task_id__in=task_ids, map_index__in=indexes)


def lock(observations: Mapping[UUID, Observation]) -> list[Known]:
    """Lock these runs, in one order for everybody, and read what is needed to observe them."""
    runs = list(Run.objects.select_for_update().filter(pk__in=observations).order_by("pk"))
    conditions = {run.pk: _needed(run, observations[run.pk]) for run in runs}
    tasks = tasks_of(runs, conditions)
    attempts = _last_attempts([run.pk for run in runs if run.attempt > 1])
    waiting = commands.waiting_for_clear([run.pk for run in runs])
    ended = [run for run in runs if observations[run.pk].pushed and observations[run.pk].end]
    prefetch_related_objects(ended, "workflow__dag")
    result_tasks = _result_tasks([run for run in runs if _has_succeeded(observations[run.pk])])
    return [
        Known(
            run=run,
            tasks=tasks[run.pk],
            history=History(run, names_of(observations[run.pk].tasks)),
            last_attempt=attempts.get(run.pk),
            waits_for_clear=run.pk in waiting,
            result_task=result_tasks.get(run.workflow_id, ""),
        )
        for run in runs
    ]


def _needed(run: Run, observation: Observation) -> Q:
    """Return which task instances decide what follows from the observation."""
    if observation.all_tasks or observation.end:
        return Q()
    needed = named(names_of(observation.tasks))
    # A stop goes on as long as one of its tasks does.
    return needed | Q(state__in=TASK_ALIVE) if run.state in {RunState.STOPPING, RunState.STOPPED} else needed


def _has_succeeded(observation: Observation) -> bool:
    return observation.end is not None and observation.end.state == "success"


def _result_tasks(runs: Collection[Run]) -> dict[int, str]:
    """Return the result tasks of the workflows of these runs, if they name one."""
    if not runs:
        return {}
    workflows = Workflow.objects.filter(pk__in={run.workflow_id for run in runs}).exclude(result_task="")
    return dict(workflows.values_list("pk", "result_task"))


def _last_attempts(runs: Collection[UUID]) -> dict[UUID, RunAttempt]:
    if not runs:
        return {}
    return {attempt.run_id: attempt for attempt in RunAttempt.objects.filter(run__in=runs).order_by("number")}
