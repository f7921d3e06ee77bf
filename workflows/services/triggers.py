"""Trigger runs: one, or many at once."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from rest.errors import InvalidInputError, SVOpsError
from workflows import parameters
from workflows.access import require_runner
from workflows.dispatch import commands, dispatcher
from workflows.dispatch.dispatcher import Prospect
from workflows.lifecycle import moves
from workflows.models import Airflow, AirflowCommand, DataInterval, IdempotencyKey, Run, TriggerType, Workflow
from workflows.services.errors import KeyReusedError, WorkflowInactiveError
from workflows.states import RunState

if TYPE_CHECKING:
    from accounts.models import User

CallerRef = int | str | None

RUN_FACTS = (
    "workflow_id", "task_id", "dataset_id", "note", "run_at", "logical_date", "data_interval_start",
    "data_interval_end",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A request for a new run. The references are the caller's own: SVOps only passes them on to the DAG.

    `parameters` replace the workflow's defaults. The run starts at `run_at`, or at once. `logical_date` and
    `data_interval` are Airflow's dates of the run, which templates such as `{{ ds }}` use. The same request with the
    same `key` of the same user is the same run.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    caller_task_ref: CallerRef = None
    caller_dataset_ref: CallerRef = None
    note: str = ""
    run_at: datetime | None = None
    logical_date: datetime | None = None
    data_interval: DataInterval | None = None
    key: str = ""

    def fingerprint(self, workflow: Workflow) -> str:
        """Return a text that is the same for the same request only. Stored keys depend on the names in it."""
        asked: dict[str, Any] = {
            "given": self.parameters,
            "task_id": self.caller_task_ref,
            "dataset_id": self.caller_dataset_ref,
            "note": self.note,
            "run_at": self.run_at,
        }
        # Only if given: keys of earlier versions have no such names. As text, because the encoder cuts microseconds.
        if self.logical_date:
            asked["logical_date"] = self.logical_date.isoformat()
        if self.data_interval:
            asked["data_interval"] = [moment.isoformat() for moment in self.data_interval]
        canonical = json.dumps([workflow.pk, asked], cls=DjangoJSONEncoder, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Triggered(NamedTuple):
    """`replayed` is true when the run was created by an earlier request with the same key.

    `airflow` is what was known of Airflow, unless that may have changed since.
    """

    run: Run
    replayed: bool
    airflow: Airflow | None = None


# The run, or why there is none.
Outcome = Triggered | SVOpsError


def trigger_run(*, workflow: Workflow, user: User, trigger_type: TriggerType, request: RunRequest | None = None) -> Run:
    """Do `trigger_once` and return the run."""
    return trigger_once(workflow=workflow, user=user, trigger_type=trigger_type, request=request or RunRequest()).run


def trigger_once(*, workflow: Workflow, user: User, trigger_type: TriggerType, request: RunRequest) -> Triggered:
    """Accept a run and dispatch it to Airflow: at once if Airflow answers, else when it does again, or at `run_at`.

    Raises `NotAllowedError` for a user who may not run the workflow, `InvalidInputError` with a message per parameter,
    `WorkflowInactiveError` when the workflow cannot run at all, `KeyReusedError` when the key was used for another
    request.
    """
    [outcome] = trigger_all(workflow=workflow, user=user, trigger_type=trigger_type, requests=[request])
    if isinstance(outcome, SVOpsError):
        raise outcome
    return outcome


def trigger_all(
    *, workflow: Workflow, user: User, trigger_type: TriggerType, requests: Sequence[RunRequest]
) -> list[Outcome]:
    """Do `trigger_once` for each of these requests, in one transaction, and return the run or the error of each.

    Raises only `NotAllowedError`, for a user who may not run the workflow.
    """
    require_runner(workflow, user)
    outcomes = _replayed(dict(enumerate(requests)), workflow, user)
    while True:
        new = {place: request for place, request in enumerate(requests) if place not in outcomes}
        if not new:
            return [outcomes[place] for place in range(len(requests))]
        prospect = dispatcher.prospect(workflow, now=timezone.now())
        runs, refused = _new_runs(new, workflow, user, trigger_type, airflow=prospect.airflow)
        outcomes |= refused
        try:
            outcomes |= _accept_and_dispatch(runs, new, user, prospect)
        except IntegrityError:
            # Another request with one of these keys may have committed in the meantime.
            others = _replayed(new, workflow, user)
            if not others:
                raise
            outcomes |= others
        else:
            return [outcomes[place] for place in range(len(requests))]


# What was asked for, what was made of it, and what came of it, each by its place in the batch.
Requests = Mapping[int, RunRequest]
Runs = Mapping[int, Run]
Outcomes = dict[int, Outcome]


def _replayed(requests: Requests, workflow: Workflow, user: User) -> Outcomes:
    """Return the runs that the keys of these requests have created, and why a request cannot have one.

    There is no "in flight": key and run are committed together.
    """
    keys = [request.key for request in requests.values() if request.key]
    with_run = IdempotencyKey.objects.select_related("run__workflow", "run__user").filter(user=user, key__in=keys)
    used = {row.key: row for row in with_run} if keys else {}
    outcomes: Outcomes = {}
    for place, request in requests.items():
        earlier = used.get(request.key)
        if error := _wrong_dates(request):
            outcomes[place] = error
        elif earlier and earlier.fingerprint == request.fingerprint(workflow):
            outcomes[place] = Triggered(earlier.run, replayed=True)
        elif earlier:
            outcomes[place] = KeyReusedError("This Idempotency-Key belongs to another request; use a new one for each.")
    return outcomes


def _new_runs(
    requests: Requests, workflow: Workflow, user: User, trigger_type: TriggerType, *, airflow: Airflow
) -> tuple[dict[int, Run], Outcomes]:
    """Return a run for each request, not stored yet, or why there is none."""
    if hindrance := moves.why_not_triggerable(workflow, airflow=airflow):
        return {}, {place: WorkflowInactiveError(hindrance) for place in requests}
    runs: dict[int, Run] = {}
    refused: Outcomes = {}
    for place, request in requests.items():
        try:
            runs[place] = _new_run(request, workflow, user, trigger_type)
        except InvalidInputError as exc:
            refused[place] = exc
    return runs, refused


def _new_run(request: RunRequest, workflow: Workflow, user: User, trigger_type: TriggerType) -> Run:
    run_id = uuid.uuid4()
    return Run(
        id=run_id,
        workflow=workflow,
        airflow_id=workflow.dag.airflow_name,
        dag_id=workflow.dag.dag_id,
        dag_run_id=f"svops__{run_id}",
        trigger_type=trigger_type,
        user=user,
        task_id=request.caller_task_ref,
        dataset_id=request.caller_dataset_ref,
        parameters=_merged_parameters(workflow=workflow, request=request),
        note=request.note,
        run_at=request.run_at,
        logical_date=request.logical_date,
        data_interval_start=request.data_interval and request.data_interval.start,
        data_interval_end=request.data_interval and request.data_interval.end,
    )


def _accept_and_dispatch(runs: Runs, requests: Requests, user: User, prospect: Prospect) -> Outcomes:
    """Store the runs, send them to Airflow after the commit, and return each as it is then."""
    if not runs:
        return {}
    now = timezone.now()
    keys = [
        IdempotencyKey(
            user=user, key=key, fingerprint=requests[place].fingerprint(run.workflow), run=run, created_at=now
        )
        for place, run in runs.items()
        if (key := requests[place].key)
    ]
    recorded = _accept(list(runs.values()), keys, user, now=now, leased_until=prospect.leased_until)
    dispatcher.dispatch_new(recorded, prospect)
    read_again = _not_queued(recorded)
    airflow = None if read_again else prospect.airflow
    return {place: Triggered(read_again.get(run.pk, run), False, airflow) for place, run in runs.items()}


@transaction.atomic
def _accept(
    runs: Sequence[Run], keys: Sequence[IdempotencyKey], user: User, *, now: datetime, leased_until: datetime | None
) -> list[AirflowCommand]:
    moves.accept_all(runs, now=now)
    IdempotencyKey.objects.bulk_create(keys)
    acts = [audit.Act(obj=run, after=audit.facts_of(run, RUN_FACTS)) for run in runs]
    audit.record_all("run.triggered", acts, actor=user, seal_at_once=False)
    return commands.record_triggers(runs, now=now, leased_until=leased_until)


def _not_queued(sent: Sequence[AirflowCommand]) -> dict[uuid.UUID, Run]:
    """Read the runs again that should be in Airflow now and are not: they wait, have failed, or were stopped."""
    runs = [command.run for command in sent if command.run and command.leased_until]
    pks = [run.pk for run in runs if run.state == RunState.PENDING]
    return Run.objects.select_related("workflow", "user").in_bulk(pks) if pks else {}


def validate_request(*, workflow: Workflow, request: RunRequest) -> dict[str, Any]:
    """Check a request as `trigger_once` does, without a run, and return the parameters that the run would have."""
    if error := _wrong_dates(request):
        raise error
    return _merged_parameters(workflow=workflow, request=request)


def _merged_parameters(*, workflow: Workflow, request: RunRequest) -> dict[str, Any]:
    """Return the parameters of a run: the given ones over the workflow's defaults, checked against the DAG's schema.

    A reference must not have the name of a parameter. Raises as `trigger_once` does.
    """
    _require_usable_dag(workflow)
    return parameters.merge(
        given=request.parameters,
        defaults=workflow.default_parameters,
        schema=workflow.dag.params_schema,
        references={"task_id": request.caller_task_ref, "dataset_id": request.caller_dataset_ref},
    )


def _wrong_dates(request: RunRequest) -> InvalidInputError | None:
    if request.data_interval is None:
        return None
    if request.logical_date is None:
        # Airflow 3 would ignore the interval.
        return InvalidInputError({"data_interval": ["Only allowed with a logical_date."]})
    if request.data_interval.end < request.data_interval.start:
        return InvalidInputError({"data_interval.end": ["Must not be before data_interval.start."]})
    return None


def _require_usable_dag(workflow: Workflow) -> None:
    if hindrance := moves.why_not_usable(workflow.dag):
        raise WorkflowInactiveError(hindrance)
