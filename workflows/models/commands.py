"""The commands to an Airflow."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from workflows import leases
from workflows.models.airflows import InAirflow
from workflows.models.runs import Run
from workflows.models.workflows import Dag, Workflow


class CommandKind(models.TextChoices):
    TRIGGER = "trigger"
    STOP = "stop"
    CLEAR = "clear"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RESULT = "result"  # read the result of a run that has succeeded; it changes nothing in Airflow


class AirflowCommandQuerySet(models.QuerySet["AirflowCommand"]):
    def pending(self) -> AirflowCommandQuerySet:
        """Return the commands that are neither confirmed by Airflow nor given up."""
        return self.filter(finished_at__isnull=True)

    def free(self, now: datetime) -> AirflowCommandQuerySet:
        """Return the commands that no worker has leased."""
        return self.filter(leases.free(now))

    def with_target(self) -> AirflowCommandQuerySet:
        """Read with each command what it is for, without the large fields of the DAG that no command needs."""
        unused = (f"run__workflow__dag__{name}" for name in ("tasks", "doc_md"))
        return self.select_related("run__workflow__dag", "dag").defer(*unused)

    def due(self, now: datetime) -> AirflowCommandQuerySet:
        """Return the pending commands whose time has come, with those that a worker dispatches."""
        return self.pending().filter(held=False, due_at__lte=now)

    def triggers_due(self, workflow_id: int, airflow: str, now: datetime) -> AirflowCommandQuerySet:
        """Return the triggers of a workflow there whose turn it is. A later trigger of the workflow waits for them.

        A trigger in its own request is not due, and one that failed is not before its next attempt.
        """
        return self.due(now).filter(kind=CommandKind.TRIGGER, workflow_id=workflow_id, airflow__name=airflow)


class AirflowCommand(InAirflow):
    """A command to Airflow: recorded with the change that causes it, dispatched afterwards, retried until done.

    It is for a run, or for a whole DAG that is to be paused or unpaused.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, blank=True, related_name="commands")
    dag = models.ForeignKey(Dag, on_delete=models.CASCADE, null=True, blank=True, related_name="commands")
    workflow = models.ForeignKey(
        Workflow, on_delete=models.CASCADE, null=True, db_index=False, related_name="+", help_text="That of the run."
    )
    kind = models.CharField(max_length=10, choices=CommandKind)
    arguments = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="Not dispatched before. Each failed attempt moves it.")
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker dispatches it.")
    held = models.BooleanField(default=False, help_text="Waits until the run is resumed.")
    attempts = models.PositiveIntegerField(default=0)
    may_have_arrived = models.BooleanField(default=False, help_text="Whether Airflow may have received it.")
    last_error = models.TextField(blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = AirflowCommandQuerySet.as_manager()

    class Meta:
        verbose_name = "Airflow command"
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(run__isnull=True) ^ Q(dag__isnull=True), name="command_for_a_run_or_a_dag"
            )
        ]
        indexes = [
            models.Index(fields=["airflow", "due_at"], condition=Q(finished_at__isnull=True), name="command_owed_to"),
            models.Index(
                fields=["workflow", "id"], condition=Q(finished_at__isnull=True, kind="trigger"), name="command_in_line"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.run_id or self.dag_id}"
