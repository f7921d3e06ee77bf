"""Apply what was read or pushed to its runs. Runs started in Airflow are adopted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from workflows.airflow import AirflowClient, types
from workflows.lifecycle.results import Found
from workflows.models import Run
from workflows.states import OPEN, TASK_NOT_BEGUN, RunState
from workflows.watch import adoption, executions, questions, results
from workflows.watch.executions import Tasks
from workflows.watch.known import Key, named, names_of, runs_of, tasks_of
from workflows.watch.observation import (
    AIRFLOW_TERMINAL,
    Observation,
    begins_again,
    differs,
    may_be_news,
    times_in_airflow,
)
from workflows.watch.observe import observe_all
from workflows.watch.pauses import follow_pauses


def apply(
    client: AirflowClient,
    *,
    runs: Iterable[types.DagRun],
    tasks: Iterable[types.TaskInstance],
    at: datetime,
    pushed: bool = False,
) -> None:
    """Observe each of our runs in what was read or, if `pushed`, sent by Airflow itself.

    A run that somebody started in Airflow becomes ours if a workflow adopts it (`adoption.adopters`).

    After an ended run, all of its tasks are read again. Only then is it certain that the end of each task is recorded
    before the end of the run. A push is committed before that, so that its events are published at once. This includes
    the end of a run if the ends of all its tasks were pushed. The next poll adds what pushes leave out.
    """
    seen_runs = {(run.dag_id, run.dag_run_id): run for run in runs}
    seen_tasks: dict[Key, list[types.TaskInstance]] = defaultdict(list)
    for task in tasks:
        seen_tasks[task.dag_id, task.dag_run_id].append(task)
    seen = _Seen(at=at, runs=seen_runs, tasks=seen_tasks, pushed=pushed)
    ours = runs_of(client.name, seen_runs.keys() | seen_tasks.keys())
    # First: a push of our own runs does not wait for what an adoption asks Airflow.
    _observe(client, ours, seen)
    unknown = [run for key, run in seen_runs.items() if key not in ours]
    _observe(client, adoption.adopt(client, unknown, pushed=pushed, now=at), seen)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one poll or push has shown of all runs."""

    at: datetime
    runs: Mapping[Key, types.DagRun]
    tasks: Mapping[Key, Sequence[types.TaskInstance]]
    pushed: bool

    def of(self, key: Key) -> Observation:
        return Observation(at=self.at, run=self.runs.get(key), tasks=self.tasks.get(key, ()), pushed=self.pushed)


def _observe(client: AirflowClient, ours: Mapping[Key, Run], seen: _Seen) -> None:
    known = tasks_of(ours.values(), {run.pk: named(names_of(seen.tasks.get(key, ()))) for key, run in ours.items()})
    shown = {key: seen.of(key) for key in ours}
    ended = {key for key, one in shown.items() if one.end and _may_change(ours[key], one.end, pushed=seen.pushed)}
    if any(_goes_on(run, known[run.pk], shown[key]) for key, run in ours.items() if run.paused):
        # Its DAG may have been unpaused since the last poll. A resumption comes before what follows from it.
        follow_pauses(client, at=timezone.now())
    news = {}
    for key, run in ours.items():
        observation = shown[key]
        if observation.run and not seen.pushed:
            adoption.complete(run, observation.run)
        # First: an answer comes before the end of its task.
        questions.read_answers(client, run, known[run.pk], observation.tasks)
        # An end that a poll shows waits until all tasks have been read.
        if seen.pushed if key in ended else may_be_news(run, known[run.pk], observation):
            news[key] = observation
    found: dict[Key, Found] = {}
    waiting = _observe_all(client, ours, news, found, pushed=seen.pushed)
    unread = {key for key in ended if not seen.pushed or key in waiting}
    whole = all_tasks(client, unread)
    read = {key: replace(seen.of(key), tasks=tasks, all_tasks=True) for key, tasks in whole.items()}
    _observe_all(client, ours, read, found, pushed=False)


def _observe_all(
    client: AirflowClient,
    ours: Mapping[Key, Run],
    observations: Mapping[Key, Observation],
    found: dict[Key, Found],
    *,
    pushed: bool,
) -> set[Key]:
    """Observe these runs, with what their tasks have asked since. Return those whose end has to wait.

    `found` has the results that were read before, and gets those that are read now.
    """
    asked = questions.missed(client, ours, {key: one.tasks for key, one in observations.items()}, pushed=pushed)
    unread = {key: one for key, one in observations.items() if key not in found}
    found |= results.read_at_once(client, ours, unread)
    waiting = observe_all(
        {ours[key].pk: replace(one, questions=asked, result=found.get(key)) for key, one in observations.items()}
    )
    return {key for key in observations if ours[key].pk in waiting}


def _goes_on(run: Run, known: Tasks, observation: Observation) -> bool:
    """Return whether a frozen run has ended in Airflow, or one of its tasks has started."""
    if observation.end:
        return True
    waiting = TASK_NOT_BEGUN | {"deferred", "awaiting_input"}
    begun = [task for task in observation.tasks if (task.state or "") not in waiting]
    return any(differs(task, shown) for shown, task in executions.pair(run, known, begun))


def _may_change(run: Run, seen: types.DagRun, *, pushed: bool) -> bool:
    """Return whether the observed end is news. Polls overlap, so they show each end several times."""
    if run.state in OPEN or begins_again(run, seen):
        return True
    if run.state == AIRFLOW_TERMINAL[seen.state]:
        # A push may have brought times that Airflow failed to commit.
        return not pushed and times_in_airflow(run, seen) != (run.started_at, run.ended_at)
    return run.state != RunState.STOPPED


def all_tasks(client: AirflowClient, keys: Collection[Key]) -> dict[Key, list[types.TaskInstance]]:
    """Read all tasks of these runs from Airflow."""
    if not keys:
        return {}
    by_dag: dict[str, list[str]] = defaultdict(list)
    for dag_id, dag_run_id in keys:
        by_dag[dag_id].append(dag_run_id)
    found: dict[Key, list[types.TaskInstance]] = {key: [] for key in keys}
    for task in client.tasks.list(dag_run_ids=by_dag):
        if (task.dag_id, task.dag_run_id) in found:
            found[task.dag_id, task.dag_run_id].append(task)
    return found
