"""Every request that SVOps sends to an Airflow: what it proves, which rights it needs, how it is tried.

Each is tried so that it changes nothing. Reads ask for a run that does not exist: whoever may read it gets 404, others
403. Writes do the same where they are about a run. A trigger and a pause are sent in a form that Airflow refuses after
it has checked the right (`workflows.airflow.probes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

from svops.doctor.permissions import (
    CREATE_RUNS,
    EDIT_DAGS,
    EDIT_RUNS,
    EDIT_TASKS,
    READ_AUDIT_LOG,
    READ_DAGS,
    READ_DEPENDENCIES,
    READ_ERRORS,
    READ_LOGS,
    READ_PLUGINS,
    READ_POOLS,
    READ_QUESTIONS,
    READ_RESULTS,
    READ_RUNS,
    READ_TASKS,
    READ_VERSIONS,
    Right,
)
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowNotFoundError
from workflows.watch.adoption import DOCTORS

NOBODYS_RUN = f"{DOCTORS}none"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request is about: this DAG, and a run and a task that do not exist."""

    client: AirflowClient
    dag_id: str
    paused: bool = False
    dag_run_id: str = NOBODYS_RUN
    task_id: str = "none"
    now: datetime = field(default_factory=timezone.now)


@dataclass(frozen=True, kw_only=True)
class Call:
    """`without` says what SVOps lacks without it; empty: it needs it. `lacking`: what an Airflow without it lacks."""

    name: str
    needs: frozenset[Right]
    ask: Callable[[Asked], object]
    # About all DAGs: only Airflow 3 also asks for the right to read DAGs.
    of_all: bool = False
    # 2.x asks for the right on the DAGs of its filter.
    filtered: bool = False
    of_dag: bool = True
    without: str = ""
    lacking: str = ""

    def rights(self, *, is_first_api: bool) -> frozenset[Right]:
        needs_dags = self.of_dag and not (self.of_all and is_first_api and not self.filtered)
        return self.needs | {READ_DAGS} if needs_dags and self.reads else self.needs

    @property
    def reads(self) -> bool:
        return all(right.action == "read" for right in self.needs)


def _none(asked: Asked) -> dict[str, list[str]]:
    return {asked.dag_id: [asked.dag_run_id]}


def _several(asked: Asked) -> dict[str, list[str]]:
    return {asked.dag_id: [asked.dag_run_id, f"{asked.dag_run_id}2"]}


def _log(asked: Asked) -> object:
    lines = asked.client.tasks.log_lines(asked.dag_id, asked.dag_run_id, asked.task_id, try_number=1)
    try:
        return next(lines, None)
    finally:
        lines.close()


def _versions(asked: Asked) -> object:
    if not asked.client.dags.has_versions():
        raise AirflowNotFoundError("no such list")
    return next(iter(asked.client.dags.versions()), None)


def _calls() -> tuple[Call, ...]:
    def rights(*some: Right) -> frozenset[Right]:
        return frozenset(some)

    return (
        Call(name="list DAGs", needs=rights(READ_DAGS), ask=lambda a: a.client.dags.list(paused=True)),
        Call(name="read a DAG", needs=rights(READ_DAGS), ask=lambda a: a.client.dags.get(a.dag_id)),
        Call(name="read the tasks of a DAG", needs=rights(READ_TASKS), ask=lambda a: a.client.dags.tasks(a.dag_id)),
        Call(
            name="read the groups of a DAG",
            needs=rights(READ_DEPENDENCIES, READ_RUNS, READ_TASKS),
            ask=lambda a: a.client.dags.structure(a.dag_id),
            without="The console does not show which tasks set up and tear down, nor mapped groups.",
            lacking="This Airflow does not show the groups of a DAG.",
        ),
        Call(
            name="list versions of DAGs",
            needs=rights(READ_VERSIONS),
            ask=_versions,
            of_all=True,
            without="A changed DAG may be noticed later.",
            lacking="This Airflow has no versions of DAGs.",
        ),
        Call(
            name="list import errors",
            needs=rights(READ_ERRORS),
            ask=lambda a: a.client.dags.import_errors(),
            of_dag=False,
            without="Errors of DAG files are not shown.",
        ),
        Call(
            name="list changed runs",
            needs=rights(READ_RUNS),
            ask=lambda a: a.client.runs.changed_since(a.now, dag_ids=[a.dag_id]),
            of_all=True,
        ),
        Call(
            name="list runs",
            needs=rights(READ_RUNS),
            ask=lambda a: a.client.runs.list(dag_ids=[a.dag_id], states=("running",), at_most=1),
            of_all=True,
        ),
        Call(
            name="list runs of a time",
            needs=rights(READ_RUNS),
            ask=lambda a: a.client.runs.between(a.now, a.now, by="start", dag_ids=[a.dag_id], at_most=1),
            of_all=True,
        ),
        Call(name="read a run", needs=rights(READ_RUNS), ask=lambda a: a.client.runs.get(a.dag_id, a.dag_run_id)),
        Call(
            name="list changed tasks",
            needs=rights(READ_RUNS, READ_TASKS),
            ask=lambda a: a.client.tasks.changed_since(a.now, dag_ids=[a.dag_id]),
            of_all=True,
        ),
        Call(
            name="list tasks of several runs",
            needs=rights(READ_RUNS, READ_TASKS),
            ask=lambda a: a.client.tasks.list(dag_run_ids=_several(a)),
            of_all=True,
            filtered=True,
        ),
        Call(
            name="list tasks of a run",
            needs=rights(READ_RUNS, READ_TASKS),
            ask=lambda a: a.client.tasks.list(dag_run_ids=_none(a)),
        ),
        Call(
            name="read a task",
            needs=rights(READ_RUNS, READ_TASKS),
            ask=lambda a: a.client.tasks.get(a.dag_id, a.dag_run_id, a.task_id),
        ),
        Call(
            name="read a log",
            needs=rights(READ_LOGS),
            ask=_log,
            without="Logs are not shown, and a stop is complete only when nothing was heard for STOP_SILENCE.",
        ),
        Call(
            name="read a result",
            needs=rights(READ_RESULTS),
            ask=lambda a: a.client.tasks.return_value(a.dag_id, a.dag_run_id, a.task_id),
            without="Runs have no results.",
        ),
        Call(
            name="list questions of tasks",
            needs=rights(READ_QUESTIONS),
            ask=lambda a: a.client.tasks.questions(dag_ids=[a.dag_id], states=["deferred"]),
            of_all=True,
            without="What a task asks a person is not shown.",
            lacking="This Airflow has no tasks that ask a person.",
        ),
        Call(
            name="read the audit log",
            needs=rights(READ_AUDIT_LOG),
            ask=lambda a: a.client.tasks.begun_since(a.now + timedelta(days=1)),
            of_all=True,
            without="A task that goes on after a wait is noticed by the sweep, up to a minute later.",
        ),
        Call(
            name="read who marked a run",
            needs=rights(READ_AUDIT_LOG),
            ask=lambda a: a.client.runs.marks(a.dag_id, a.dag_run_id),
            of_all=True,
            filtered=True,
            without="Nobody is named who marks a run in Airflow.",
        ),
        Call(
            name="list pools",
            needs=rights(READ_POOLS),
            ask=lambda a: a.client.pools(),
            of_dag=False,
            without="`explain` does not name a full pool.",
        ),
        Call(
            name="list plugins",
            needs=rights(READ_PLUGINS),
            ask=lambda a: a.client.probes.plugins(),
            of_dag=False,
            without="Only the doctor asks for it: it does not know whether the listener is installed.",
        ),
        Call(name="start a run", needs=rights(EDIT_DAGS, CREATE_RUNS), ask=lambda a: a.client.probes.trigger(a.dag_id)),
        Call(
            name="stop a run",
            needs=rights(EDIT_DAGS, EDIT_RUNS),
            ask=lambda a: a.client.runs.set_state(a.dag_id, a.dag_run_id, "failed"),
        ),
        Call(
            name="retry a run",
            needs=rights(EDIT_DAGS, EDIT_RUNS, EDIT_TASKS),
            ask=lambda a: a.client.tasks.clear(a.dag_id, a.dag_run_id, only_failed=False, dry_run=True),
        ),
        Call(
            name="pause a DAG",
            needs=rights(EDIT_DAGS),
            ask=lambda a: a.client.probes.pause(a.dag_id, paused=a.paused),
        ),
    )


CALLS = _calls()
