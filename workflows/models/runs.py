"""Runs, their earlier attempts, their task instances, and the requests that created them."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Case, Exists, F, Func, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from workflows.models.airflows import InAirflow
from workflows.models.workflows import Dag, Workflow, is_unrestricted
from workflows.naming import DEFAULT
from workflows.parameters import CONF_KEY, declared_in
from workflows.states import (
    ENTERED_FROM,
    OPEN,
    TASK_AT_WORK,
    TASK_KNOWN,
    TASK_TERMINAL,
    TASK_WAITING,
    TERMINAL,
    RunState,
)

if TYPE_CHECKING:
    from accounts.models import User


class RunChanges(TypedDict, total=False):
    """Fields of a run that may change with its state."""

    attempt: int
    state_reason: str
    paused: bool
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    stop_requested_at: datetime | None
    end_seen_at: datetime | None


def with_state(to: RunState, changes: RunChanges) -> dict[str, Any]:
    """Return the fields that change when a run enters a state: a run that ends or stops is not paused any more."""
    released = {"paused": False} if to in TERMINAL or to == RunState.STOPPING else {}
    return {**changes, **released, "state": to}


class ReferenceText(Func):
    """A caller's reference as text, whether it is stored as a string or as an integer."""

    output_field = models.TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s #>> '{}')", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="CAST(JSON_EXTRACT(%(expressions)s, '$') AS TEXT)", **context)


NEWEST_FIRST = ("-created_at", "-id")
NO_SUCCESS, NOT_BY_API = ~Q(state=RunState.SUCCESS), ~Q(trigger_type="api")
NOT_ON_DEFAULT = ~Q(airflow=DEFAULT)


def by_reference(field: str) -> models.Index:
    """Return the index of the runs with a reference of the caller, newest first."""
    newest = (F("created_at").desc(), F("id").desc())
    return models.Index(
        ReferenceText(field), *newest, name=f"run_by_{field}", condition=Q(**{f"{field}__isnull": False})
    )


def has_work() -> Exists:
    """Return the condition that a task of the run goes on even while its DAG is paused."""
    return Exists(_tasks_at_work())


def _tasks_at_work() -> QuerySet[TaskInstance]:
    return TaskInstance.objects.filter(run=OuterRef("pk"), state__in=TASK_AT_WORK)


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User | AnonymousUser) -> RunQuerySet:
        if is_unrestricted(user):
            return self.all()
        return self.filter(workflow__in=Workflow.objects.remembered_by(user)).within(user)

    def within(self, user: User | AnonymousUser) -> RunQuerySet:
        """Return the run alone for which the user's credential is valid; all runs if it names none."""
        only = user.bounds.run_id if user.is_authenticated else None
        return self if only is None else self.filter(pk=only)

    def open(self) -> RunQuerySet:
        return self.filter(state__in=OPEN)

    def of_dag(self, dag: Dag) -> RunQuerySet:
        """Return the runs of the DAG where it is, whatever their workflow runs now."""
        return self.filter(airflow__name=dag.airflow_name, dag_id=dag.dag_id)

    def open_by_airflow(self) -> dict[str, int]:
        """Return how many open runs each Airflow has, by its name, if it has any."""
        return dict(self.open().order_by().values_list("airflow__name").annotate(models.Count("pk")))

    def with_work(self) -> RunQuerySet:
        """Read with each run whether one of its tasks is at work, for `Run.is_pausing` and `Run.is_paused`.

        The tasks count, and are read, only of a running run whose DAG is paused.
        """
        # For an Exists, PostgreSQL may read the tasks of all runs at once.
        one = Subquery(_tasks_at_work().order_by().values(found=Value(True))[:1])
        of_paused = When(paused=True, state=RunState.RUNNING, then=Coalesce(one, False))
        return self.annotate(has_work=Case(of_paused, default=False))

    def move(self, run_id: uuid.UUID, *, to: RunState, **changes: Unpack[RunChanges]) -> bool:
        """Change the state if the table allows it right now. Return whether it did."""
        changed = with_state(to, changes)
        return self.filter(pk=run_id, state__in=ENTERED_FROM[to]).update(**changed) == 1


class TriggerType(models.TextChoices):
    API = "api"
    COMMAND = "command"
    ADMIN = "admin"
    EXTERNAL = "external"  # started in Airflow itself


class DataInterval(NamedTuple):
    """The time whose data a run handles: from `start` up to `end`."""

    start: datetime
    end: datetime


class Run(InAirflow):
    """One run of a workflow, known to its Airflow as (`dag_id`, `dag_run_id`).

    Airflow and DAG are those of the workflow when the run was triggered.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # The indexes below begin with the workflow or the user too.
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="runs", db_index=False)
    dag_id = models.CharField(max_length=250, help_text="As it was when the run was triggered.")
    dag_run_id = models.CharField(max_length=250)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.PENDING)
    state_reason = models.TextField(blank=True)
    paused = models.BooleanField(default=False, help_text="No further task of it starts until it is resumed.")
    trigger_type = models.CharField(max_length=10, choices=TriggerType, default=TriggerType.API)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="runs",
        db_index=False,
    )
    task_id = models.JSONField(null=True, blank=True, help_text="The caller's own reference.")
    dataset_id = models.JSONField(null=True, blank=True, help_text="The caller's own reference.")
    parameters = models.JSONField(default=dict, blank=True, help_text="Merged over the workflow's defaults.")
    note = models.TextField(blank=True)
    attempt = models.PositiveIntegerField(default=1, help_text="Each retry adds one.")
    event_count = models.PositiveIntegerField(default=0, help_text="The `seq` of its newest event.")
    created_at = models.DateTimeField()
    run_at = models.DateTimeField(null=True, blank=True, help_text="Not dispatched before.")
    logical_date = models.DateTimeField(null=True, blank=True, help_text="Airflow's date of the run, if one was given.")
    data_interval_start = models.DateTimeField(null=True, blank=True)
    data_interval_end = models.DateTimeField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True, help_text="When Airflow accepted it.")
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    end_seen_at = models.DateTimeField(
        null=True, blank=True, help_text="When Airflow first showed its end, while the ends of its tasks are awaited."
    )
    observed_at = models.DateTimeField(null=True, blank=True, help_text="The newest observation of it in Airflow.")

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint("dag_id", "dag_run_id", "airflow", name="run_unique_per_airflow")]
        indexes = [
            models.Index(fields=["workflow", "-created_at", "-id"], name="run_by_workflow"),
            models.Index(fields=["-created_at", "-id"], name="run_by_time"),
            models.Index(fields=["user", "-created_at"], name="run_by_user"),
            models.Index(fields=["state"], condition=Q(state__in=sorted(OPEN)), name="run_open"),
            # Most runs are a success and came over the API: those are found by their time.
            models.Index(fields=["state", *NEWEST_FIRST], name="run_by_state", condition=NO_SUCCESS),
            models.Index(fields=["workflow", "state", *NEWEST_FIRST], name="run_by_its_state", condition=NO_SUCCESS),
            models.Index(fields=["trigger_type", *NEWEST_FIRST], name="run_by_trigger", condition=NOT_BY_API),
            models.Index(fields=["airflow", *NEWEST_FIRST], name="run_by_airflow", condition=NOT_ON_DEFAULT),
            models.Index(fields=NEWEST_FIRST, name="run_paused", condition=Q(paused=True)),
            by_reference("task_id"),
            by_reference("dataset_id"),
        ]

    def __str__(self) -> str:
        return f"{self.dag_id}/{self.dag_run_id}"

    def is_on(self, dag: Dag) -> bool:
        """Return whether it runs in this DAG, where the DAG is."""
        return (self.airflow_name, self.dag_id) == (dag.airflow_name, dag.dag_id)

    @property
    def dag(self) -> Dag:
        """Return the DAG that it runs in. Its workflow may have got another one since, perhaps in another Airflow.

        If SVOps does not know it any more, that of the workflow is the next best, for reading alone.
        """
        of_workflow = self.workflow.dag
        return of_workflow if self.is_on(of_workflow) else Dag.objects.of_run(self).first() or of_workflow

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def data_interval(self) -> DataInterval | None:
        if self.data_interval_start is None or self.data_interval_end is None:
            return None
        return DataInterval(self.data_interval_start, self.data_interval_end)

    @property
    def conf(self) -> dict[str, Any]:
        """Return the conf that the DAG gets: the parameters, and the caller's references under a key of ours.

        The references are beside the parameters too, unless a parameter has the name.
        """
        references = {"task_id": self.task_id, "dataset_id": self.dataset_id}
        taken = declared_in(self.dag.params_schema) | self.parameters.keys()
        beside = {name: value for name, value in references.items() if value is not None and name not in taken}
        ours = {
            **references,
            "caller_task_ref": self.task_id,
            "caller_dataset_ref": self.dataset_id,
            "run_id": str(self.pk),
            "workflow_id": self.workflow_id,
        }
        return {**self.parameters, **beside, CONF_KEY: ours}

    @property
    def is_pausing(self) -> bool:
        """Whether its DAG is paused, and tasks that had started go on to their end."""
        if not self.paused or self.state != RunState.RUNNING:
            return False
        known: bool | None = getattr(self, "has_work", None)
        return self.tasks.filter(state__in=TASK_AT_WORK).exists() if known is None else known

    @property
    def is_paused(self) -> bool:
        """Whether it can make no progress until it is resumed."""
        return self.paused and not self.is_pausing

    def duration(self) -> timedelta | None:
        return self.ended_at - self.started_at if self.started_at and self.ended_at else None


class RunAttempt(models.Model):
    """An earlier attempt of a run, before a retry or a clear in Airflow: the values of the run's fields at its end."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=RunState)
    state_reason = models.TextField(blank=True)
    failed_tasks = models.JSONField(default=list, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint("run", "number", name="attempt_unique_in_run")]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.number}"


class ResultState(models.TextChoices):
    """Whether a run has a result. `none` is stored of no run: it has no row."""

    NONE = "none"  # nothing is expected: the workflow names no task, or the run has not succeeded
    PENDING = "pending"  # it comes when the run has succeeded, or is still to be read from Airflow
    READY = "ready"
    MISSING = "missing"  # the task was skipped, has failed or has returned nothing
    TOO_LARGE = "too_large"  # Airflow has it
    UNAVAILABLE = "unavailable"  # Airflow did not give it


class RunResult(models.Model):
    """What the result task of a workflow returned in the newest attempt of a run that has succeeded.

    The row is written with the end of the run, and once more when Airflow has given the value.
    """

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="result")
    attempt = models.PositiveIntegerField(help_text="Of the run.")
    task_id = models.CharField(max_length=250)
    state = models.CharField(max_length=15, choices=ResultState, default=ResultState.PENDING)
    value = models.JSONField(null=True, blank=True)
    size = models.PositiveBigIntegerField(null=True, blank=True, help_text="In bytes as JSON, if it is known.")
    reason = models.TextField(blank=True, help_text="Why there is no value.")
    found_at = models.DateTimeField(null=True, blank=True, help_text="When Airflow gave it.")

    class Meta:
        ordering = ["run"]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.state}"


class TaskInstanceQuerySet(models.QuerySet["TaskInstance"]):
    def runs_at_work(self, runs: Collection[uuid.UUID]) -> set[uuid.UUID]:
        """Return which of these runs have a task that goes on even while its DAG is paused."""
        return set(self.filter(run__in=runs, state__in=TASK_AT_WORK).order_by().values_list("run", flat=True))


class TaskInstance(models.Model):
    """One of Airflow's task instances: an execution of a task, and its retries.

    Its key is (dag_id, dag_run_id, task_id, map_index), and in a loop also Airflow's id of the execution.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tasks")
    task_id = models.CharField(max_length=250)
    map_index = models.IntegerField(default=-1)
    instance_id = models.CharField(max_length=250, blank=True, help_text="Airflow's id of its last try; none in 2.11.")
    state = models.CharField(max_length=250, blank=True, help_text="Airflow's own word; empty before it is scheduled.")
    try_number = models.PositiveIntegerField(default=0)
    max_tries = models.IntegerField(default=0)
    operator = models.CharField(max_length=250, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    receipt_try = models.PositiveIntegerField(default=0, help_text="The newest try with an exit proof.")
    question = models.JSONField(
        null=True, blank=True, help_text="What it asks a person, and the answer; empty if Airflow does not say."
    )
    # What the log holds of it, so that an observation need not read the log: see `workflows.watch.recorded`.
    start_recorded = models.BooleanField(null=True, editable=False, help_text="Empty if only the log knows.")
    end_recorded = models.CharField(max_length=40, blank=True, default="", db_default="", editable=False)
    recorded_from = models.PositiveIntegerField(null=True, editable=False, help_text="Empty if only the log knows.")

    objects = TaskInstanceQuerySet.as_manager()

    class Meta:
        ordering = ["run", "id"]
        constraints = [models.UniqueConstraint("run", "task_id", "map_index", "instance_id", name="task_unique_in_run")]
        indexes = [models.Index(fields=["run"], condition=Q(state__in=sorted(TASK_WAITING)), name="task_waiting")]

    def __str__(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again by itself. In a state that SVOps does not know, only its end time says so."""
        return self.state in TASK_TERMINAL or (self.state not in TASK_KNOWN and self.ended_at is not None)

    @property
    def awaits_person(self) -> bool:
        """Whether a person has to answer its question. Before Airflow 3.3, such a task is `deferred`."""
        return self.state == "awaiting_input" or (self.state == "deferred" and bool(self.question))

    def duration(self) -> timedelta | None:
        """Return how long its last try took. The two times may come from the clocks of two machines."""
        return max(self.ended_at - self.started_at, timedelta(0)) if self.started_at and self.ended_at else None


class IdempotencyKey(models.Model):
    """A request that its caller may repeat: the same key and body return the run that the first one created."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the request.")
    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint("user", "key", name="idempotency_key_unique")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_by_age")]

    def __str__(self) -> str:
        return self.key
