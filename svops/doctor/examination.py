"""All checks, one after the other. An outage is a row, not an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime

from django.db import DatabaseError

from rest.masking import mask
from svops.doctor import airflow as airflow_checks
from svops.doctor import listener, surroundings
from svops.doctor.airflow import Airflow as Answering
from svops.doctor.calls import Asked
from svops.doctor.findings import Finding, Outcome, Progress, timed
from svops.doctor.real_run import RealRun
from workflows import gateway, way_in
from workflows.airflow import Access, AirflowClient
from workflows.airflow.errors import AirflowError
from workflows.airflow.types import Dag
from workflows.models import Airflow, Workflow
from workflows.naming import DEFAULT

logger = logging.getLogger(__name__)


def examine(*, airflow: str = "", dag_id: str = "", progress: Progress = lambda _: None) -> Iterator[Finding]:
    """Yield what each check finds, of every active Airflow or of the named one.

    With `dag_id`, a real run of this DAG is started and stopped, on the named Airflow, or else on the default one.
    """
    yield from surroundings.checks(progress)
    for name in [airflow] if airflow else _active():
        its_dag = dag_id if name == (airflow or DEFAULT) else ""
        for finding in _of(name, its_dag, progress):
            yield replace(finding, airflow=name)


def _active() -> list[str]:
    try:
        return Airflow.active_names()
    except DatabaseError:
        return [DEFAULT]


def _of(name: str, dag_id: str, progress: Progress) -> Iterator[Finding]:
    what = "Airflow" if name == DEFAULT else f"Airflow {name}"
    progress(what)
    try:
        access, client = way_in.access(name), gateway.separate(name)
    except (AirflowError, DatabaseError) as exc:
        mend = f"Describe the way to {name} again (docs/airflows.md)."
        yield Finding(part=airflow_checks.PART, check="answer", outcome=Outcome.WRONG, found=str(exc), mend=mend)
        return
    with closing(client):
        yield from _examined(client, access, dag_id, lambda check: progress(f"{what}: {check}"))


def _examined(client: AirflowClient, access: Access, dag_id: str, progress: Progress) -> Iterator[Finding]:
    airflow, findings = airflow_checks.reach(client, access)
    yield from findings
    run: RealRun | None = None
    if airflow:
        yield from _safely("clock", lambda: [airflow_checks.clock(client)])
        yield from _safely("health", lambda: [airflow_checks.health(client)])
        airflow = replace(airflow, dags=_dags(client))
        yield from airflow_checks.calls(airflow, _asked(airflow, dag_id), progress)
        yield from _of_dags(airflow, progress)
        if dag_id:
            run = RealRun(client, dag_id)
            progress(f"a run of {dag_id}")
            yield from _safely("a real run", run.start)
    progress("pushes")
    yield from _safely("pushes", lambda: listener.checks(client.name, airflow, pushed_since=_pushed_since(run)))
    if run:
        yield from _safely("a real run", run.end)


def summary(findings: Sequence[Finding]) -> str:
    """Return the result as one line."""
    problems = [finding for finding in findings if finding.is_problem]
    lesser = sum(not one.is_problem and one.outcome in {Outcome.MISSING, Outcome.WRONG} for one in findings)
    less = f" {lesser} more of less weight." if lesser else ""
    if not problems:
        return f"Doctor: {len(findings)} checks, no problem.{less}"
    whose = "" if problems[0].airflow in {"", DEFAULT} else f"{problems[0].airflow}: "
    first = mask(f"{whose}{problems[0].check} ({problems[0].found or problems[0].outcome})")
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"Doctor: {len(findings)} checks, a problem with {first}{more}.{less}"


def _pushed_since(run: RealRun | None) -> datetime | None:
    """Return since when a push must have come. The tasks of a paused DAG do not begin."""
    return run.begun_at if run and not run.is_paused else None


def _dags(client: AirflowClient) -> list[Dag]:
    try:
        return [dag for dag in client.dags.list() if isinstance(dag, Dag)]
    except AirflowError:
        return []  # its own row says so


def _asked(airflow: Answering, dag_id: str) -> Asked:
    """Choose the DAG that the calls are about: the named one, else one with a workflow, else any, else none."""
    dags = {dag.dag_id: dag for dag in airflow.dags if isinstance(dag, Dag)}
    names = [dag_id] if dag_id else [*_offered(airflow.name), *dags]
    chosen = next((name for name in names if name in dags), dag_id or airflow_checks.NO_DAG)
    return Asked(client=airflow.client, dag_id=chosen, paused=dags[chosen].is_paused if chosen in dags else False)


def _offered(airflow: str) -> list[str]:
    its = Workflow.objects.alive().filter(dag__airflow__name=airflow)
    try:
        return list(its.order_by("id").values_list("dag__dag_id", flat=True)[:100])
    except DatabaseError:
        return []


def _of_dags(airflow: Answering, progress: Progress) -> Iterator[Finding]:
    yield from _safely("DAGs of workflows", lambda: airflow_checks.dags_of_workflows(airflow, progress))
    try:
        errors = {error.filename: error.stack_trace for error in airflow.client.dags.import_errors()}
    except AirflowError:
        errors = {}
    yield airflow_checks.folder(airflow, errors)


def _safely(check: str, look: Callable[[], Iterator[Finding] | list[Finding]]) -> Iterator[Finding]:
    """Yield the findings. If Airflow or the database fails meanwhile, that is the last of them."""
    with timed() as watch:
        try:
            yield from look()
        except AirflowError as exc:
            found = str(exc)
        except DatabaseError as exc:
            found = f"the database does not answer: {type(exc).__name__}"
        else:
            return
    yield Finding(part=airflow_checks.PART, check=check, outcome=Outcome.WRONG, found=found, ms=watch.ms)
