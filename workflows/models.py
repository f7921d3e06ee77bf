"""What runs, what it runs on, and what happened to it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from workflows.states import ENTERED_FROM, OPEN, TERMINAL, RunState

if TYPE_CHECKING:
    from accounts.models import User


class Dag(models.Model):
    """Our mirror of one of Airflow's DAGs, as it was at `synced_at`."""

    dag_id = models.CharField(max_length=250, unique=True)
    description = models.TextField(blank=True)
    doc_md = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    owners = models.JSONField(default=list, blank=True)
    timetable_summary = models.CharField(max_length=250, blank=True)
    fileloc = models.CharField(max_length=1000, blank=True)
    max_active_runs = models.PositiveIntegerField(default=16)
    is_paused = models.BooleanField(default=False)
    is_present = models.BooleanField(default=True, help_text="Airflow still has it.")
    import_error = models.TextField(blank=True)
    params_schema = models.JSONField(default=dict, blank=True, help_text="JSON schema of the run's parameters.")
    tasks = models.JSONField(default=list, blank=True, help_text="The task graph.")
    synced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "DAG"
        verbose_name_plural = "DAGs"
        ordering = ["dag_id"]

    def __str__(self) -> str:
        return self.dag_id


class Visibility(models.TextChoices):
    INTERNAL = "internal"  # all signed-in may read, users may trigger
    PRIVATE = "private"  # its owner, admins, and those who were granted it


class WorkflowQuerySet(models.QuerySet["Workflow"]):
    def alive(self) -> WorkflowQuerySet:
        return self.filter(deleted_at__isnull=True)

    def visible_to(self, user: User | AnonymousUser) -> WorkflowQuerySet:
        """Those that `user` may read."""
        return self.remembered_by(user).alive()

    def remembered_by(self, user: User | AnonymousUser) -> WorkflowQuerySet:
        """Those whose runs and events `user` may read: the rule for every way in.

        These are the visible ones, and those that were deleted while they were the user's own; of admins, all.
        `audience.load` is its twin for streams.
        """
        if not user.is_authenticated or not user.is_active:
            return self.none()
        within = user.bounds.workflow_ids
        known = self if within is None else self.filter(pk__in=within)
        if user.is_superuser:
            return known.all()
        granted = Grant.objects.held_by(user).values("workflow")
        shared = Q(visibility=Visibility.INTERNAL) | Q(pk__in=granted)
        return known.filter(Q(owner=user) | Q(deleted_at__isnull=True) & shared)


class Workflow(models.Model):
    """A DAG made available under a name, with defaults and an audience."""

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    dag = models.ForeignKey(Dag, on_delete=models.PROTECT, related_name="workflows")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="workflows")
    is_active = models.BooleanField(default=True, help_text="Whether it may be triggered.")
    default_parameters = models.JSONField(default=dict, blank=True)
    visibility = models.CharField(max_length=10, choices=Visibility, default=Visibility.INTERNAL)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Hidden since; its runs are kept.")

    objects = WorkflowQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                "owner", "name", condition=Q(deleted_at__isnull=True), name="workflow_name_unique_per_owner"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Level(models.TextChoices):
    """What a grant allows; each includes the one before it. The role's scopes bound it."""

    VIEW = "view"
    RUN = "run"  # trigger and control too
    MANAGE = "manage"  # change, delete and grant too


class GrantQuerySet(models.QuerySet["Grant"]):
    def held_by(self, user: User) -> GrantQuerySet:
        """Those of the user, and of the groups that the user is in."""
        return self.filter(Q(user=user) | Q(group__user=user))


class Grant(models.Model):
    """What a user, or everybody in a group, may do with a workflow that is not their own."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="grants"
    )
    group = models.ForeignKey("auth.Group", on_delete=models.CASCADE, null=True, blank=True, related_name="grants")
    level = models.CharField(max_length=10, choices=Level, default=Level.VIEW)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True) ^ Q(group__isnull=True), name="grant_to_a_user_or_a_group"
            ),
            models.UniqueConstraint("workflow", "user", name="grant_unique_for_user"),
            models.UniqueConstraint("workflow", "group", name="grant_unique_for_group"),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.level}"


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User | AnonymousUser) -> RunQuerySet:
        visible = self.filter(workflow__in=Workflow.objects.remembered_by(user))
        only = user.bounds.run_id if user.is_authenticated else None
        return visible if only is None else visible.filter(pk=only)

    def open(self) -> RunQuerySet:
        return self.filter(state__in=OPEN)

    def move(self, run_id: uuid.UUID, *, to: RunState, **changes: Any) -> bool:
        """Change state if the table allows it right now; tell whether it did."""
        if to in TERMINAL or to == RunState.STOPPING:
            changes["paused"] = False
        return self.filter(pk=run_id, state__in=ENTERED_FROM[to]).update(state=to, **changes) == 1


class TriggerType(models.TextChoices):
    API = "api"
    COMMAND = "command"
    ADMIN = "admin"
    EXTERNAL = "external"  # started in Airflow itself


class Run(models.Model):
    """One run of a workflow, known to Airflow as (`dag_id`, `dag_run_id`)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="runs")
    dag_id = models.CharField(max_length=250, help_text="As it was when the run was triggered.")
    dag_run_id = models.CharField(max_length=250)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.PENDING)
    state_reason = models.TextField(blank=True)
    paused = models.BooleanField(default=False, help_text="It can make no progress until it is resumed.")
    trigger_type = models.CharField(max_length=10, choices=TriggerType, default=TriggerType.API)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="runs"
    )
    task_id = models.JSONField(null=True, blank=True, help_text="The caller's own reference.")
    dataset_id = models.JSONField(null=True, blank=True, help_text="The caller's own reference.")
    parameters = models.JSONField(default=dict, blank=True, help_text="Merged over the workflow's defaults.")
    note = models.TextField(blank=True)
    attempt = models.PositiveIntegerField(default=1, help_text="Goes up with each retry.")
    event_count = models.PositiveIntegerField(default=0, help_text="The `seq` of its newest event.")
    created_at = models.DateTimeField()
    run_at = models.DateTimeField(null=True, blank=True, help_text="Not handed over before.")
    queued_at = models.DateTimeField(null=True, blank=True, help_text="When Airflow took it.")
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True, help_text="The newest look at it in Airflow.")

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint("dag_id", "dag_run_id", name="run_unique_in_airflow")]
        indexes = [
            models.Index(fields=["workflow", "-created_at", "-id"], name="run_by_workflow"),
            models.Index(fields=["-created_at", "-id"], name="run_by_time"),
            models.Index(fields=["user", "-created_at"], name="run_by_user"),
            models.Index(fields=["state"], condition=Q(state__in=sorted(OPEN)), name="run_open"),
        ]

    def __str__(self) -> str:
        return f"{self.dag_id}/{self.dag_run_id}"

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def conf(self) -> dict[str, Any]:
        """What the DAG is handed: the parameters, and the caller's references beside them."""
        references = {"task_id": self.task_id, "dataset_id": self.dataset_id}
        return {**self.parameters, **{name: value for name, value in references.items() if value is not None}}

    def duration(self) -> timedelta | None:
        return self.ended_at - self.started_at if self.started_at and self.ended_at else None


class RunAttempt(models.Model):
    """An attempt of a run that a retry, or a clear in Airflow, has ended: what the run's own fields said then."""

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


class TaskInstance(models.Model):
    """One of Airflow's task instances; its key there is (dag_id, dag_run_id, task_id, map_index)."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tasks")
    task_id = models.CharField(max_length=250)
    map_index = models.IntegerField(default=-1)
    state = models.CharField(max_length=30, blank=True, help_text="Airflow's own word; empty before it is scheduled.")
    try_number = models.PositiveIntegerField(default=0)
    max_tries = models.IntegerField(default=0)
    operator = models.CharField(max_length=250, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    receipt_try = models.PositiveIntegerField(default=0, help_text="The newest try whose process is known to be gone.")

    class Meta:
        ordering = ["run", "id"]
        constraints = [models.UniqueConstraint("run", "task_id", "map_index", name="task_unique_in_run")]

    def __str__(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    def duration(self) -> timedelta | None:
        return self.ended_at - self.started_at if self.started_at and self.ended_at else None


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: User | AnonymousUser) -> EventQuerySet:
        """Of the workflows that `user` remembers; of no workflow: what is for everybody, or for `user`."""
        of_workflow = Q(workflow__in=Workflow.objects.remembered_by(user))
        if user.is_authenticated and user.bounds.run_id is not None:
            return self.filter(of_workflow, run=user.bounds.run_id)
        if user.is_authenticated and user.bounds.workflow_ids is not None:
            return self.filter(of_workflow)
        for_nobody_else = Q() if user.is_superuser else Q(user__isnull=True) | Q(user=user.pk)
        return self.filter(of_workflow | Q(workflow__isnull=True) & for_nobody_else)

    def published(self) -> EventQuerySet:
        return self.filter(position__isnull=False)


class Event(models.Model):
    """A line of the log. `position` is its place in the order in which events became visible: the only cursor."""

    position = models.PositiveBigIntegerField(null=True, blank=True, unique=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, blank=True, related_name="events")
    seq = models.PositiveIntegerField(null=True, blank=True, help_text="1, 2, 3… within its run.")
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, null=True, blank=True, related_name="events")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        help_text="Whose run it is.",
    )
    type = models.CharField(max_length=40)
    task_id = models.CharField(max_length=250, blank=True)
    timestamp = models.DateTimeField()
    data = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint("run", "seq", name="event_seq_unique_in_run")]
        indexes = [models.Index(fields=["id"], condition=Q(position__isnull=True), name="event_unpublished")]

    def __str__(self) -> str:
        return f"{self.type} #{self.position}"


class LogHead(models.Model):
    """The one row whose lock makes publishers take turns, and which knows the last position given."""

    position = models.PositiveBigIntegerField(default=0)
    cut_at = models.PositiveBigIntegerField(default=0, help_text="Events up to here are no longer kept.")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_log_head")]

    def __str__(self) -> str:
        return str(self.position)


class CommandKind(models.TextChoices):
    TRIGGER = "trigger"
    STOP = "stop"
    CLEAR = "clear"
    PAUSE = "pause"
    UNPAUSE = "unpause"


class AirflowCommand(models.Model):
    """Something we owe Airflow: written with the change it carries out, executed after it, retried until done.

    It concerns a run, or a whole DAG when that is to be paused or unpaused.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, blank=True, related_name="commands")
    dag = models.ForeignKey(Dag, on_delete=models.CASCADE, null=True, blank=True, related_name="commands")
    kind = models.CharField(max_length=10, choices=CommandKind)
    arguments = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="Not before; moved on by each failed attempt.")
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While somebody carries it out.")
    held = models.BooleanField(default=False, help_text="Waits until the run is resumed.")
    attempts = models.PositiveIntegerField(default=0)
    may_have_arrived = models.BooleanField(default=False, help_text="Whether Airflow may know of it already.")
    last_error = models.TextField(blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "Airflow command"
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(run__isnull=True) ^ Q(dag__isnull=True), name="command_for_a_run_or_a_dag"
            )
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(finished_at__isnull=True), name="command_owed")]

    def __str__(self) -> str:
        return f"{self.kind} {self.run_id or self.dag_id}"


class IdempotencyKey(models.Model):
    """A request that its caller may repeat: the same key and body answer with what the first one made."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of what was asked for.")
    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint("user", "key", name="idempotency_key_unique")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_key_by_age")]

    def __str__(self) -> str:
        return self.key


class AirflowState(models.Model):
    """The one row that says how Airflow is, and how far we have looked."""

    reachable = models.BooleanField(default=True)
    version = models.CharField(max_length=50, blank=True)
    last_error = models.TextField(blank=True)
    ticked_at = models.DateTimeField(null=True, blank=True, help_text="Beat's last tick, whatever came of it.")
    looked_at = models.DateTimeField(null=True, blank=True, help_text="The change feed has been read up to here.")
    swept_at = models.DateTimeField(null=True, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker looks.")
    dispatch_leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker hands over.")

    class Meta:
        verbose_name = verbose_name_plural = "Airflow state"
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_airflow_state")]

    def __str__(self) -> str:
        return "reachable" if self.reachable else "unreachable"

    @classmethod
    def current(cls) -> AirflowState:
        return cls.objects.get_or_create(pk=1)[0]

    def is_stale(self, now: datetime) -> bool:
        """Whether cached state may be behind Airflow's."""
        limit = timedelta(seconds=settings.STALE_AFTER)
        return not self.reachable or self.looked_at is None or now - self.looked_at > limit
