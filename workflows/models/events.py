"""The log of events, and the row that holds its last position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from workflows.models.runs import Run
from workflows.models.workflows import Dag, Workflow

if TYPE_CHECKING:
    from accounts.models import User

# The events of this prefix are about a DAG. Those of this type quote its author's error.
ABOUT_DAGS, AUTHORS_ERROR = "dag.", "dag.import_error"
# A reader of one of these finds a page of them wherever it begins. The others have an index.
OF_EVERY_RUN = ("task.completed", "task.started", "workflow.completed", "workflow.started", "workflow.triggered")


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: User | AnonymousUser) -> EventQuerySet:
        """Return the events of workflows and DAGs that `user` may read, and those for everybody or for `user` alone."""
        of_workflow = Q(workflow__in=Workflow.objects.remembered_by(user))
        if user.is_authenticated and user.bounds.run_id is not None:
            return self.filter(of_workflow, run=user.bounds.run_id)
        if user.is_authenticated and user.bounds.workflow_ids is not None:
            return self.filter(of_workflow)
        if user.is_superuser:
            return self.filter(of_workflow | Q(workflow__isnull=True))
        of_dag = Q(type__startswith=ABOUT_DAGS)
        authors_error = Q(type=AUTHORS_ERROR)
        readable = authors_error & Q(dag__in=Dag.objects.errors_readable_by(user))
        readable |= of_dag & ~authors_error & Q(dag__in=Dag.objects.visible_to(user))
        readable |= ~of_dag & (Q(user__isnull=True) | Q(user=user.pk))
        return self.filter(of_workflow | Q(workflow__isnull=True) & readable)

    def published(self) -> EventQuerySet:
        return self.filter(position__isnull=False)


class Event(models.Model):
    """A line of the log. `position` is its place in the order in which events become visible: the only cursor."""

    position = models.PositiveBigIntegerField(null=True, blank=True, unique=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, blank=True, related_name="events")
    seq = models.PositiveIntegerField(null=True, blank=True, help_text="1, 2, 3… within its run.")
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, null=True, blank=True, related_name="events")
    dag = models.ForeignKey(
        Dag,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="Only for an event about a DAG. Without one, only admins may read it.",
    )
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
        indexes = [
            models.Index(fields=["id"], condition=Q(position__isnull=True), name="event_unpublished"),
            models.Index(
                fields=["type", "position"],
                condition=Q(position__isnull=False) & ~Q(type__in=OF_EVERY_RUN),
                name="event_by_rare_type",
            ),
            models.Index(fields=["dag", "timestamp"], condition=Q(dag__isnull=False), name="event_of_dag"),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.position}"


class LogHead(models.Model):
    """The one row that holds the last position. Its lock makes publishers take turns."""

    position = models.PositiveBigIntegerField(default=0)
    cut_at = models.PositiveBigIntegerField(default=0, help_text="Events up to here are no longer kept.")
    identity = models.CharField(max_length=100, blank=True, db_default="", help_text="Of the database, when last seen.")
    replaced_at = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="The last event before another database took the place of the one before."
    )
    begins_at = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="Positions go on behind this. Between the two, events were lost."
    )

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_log_head")]

    def __str__(self) -> str:
        return str(self.position)

    def has_lost(self, position: int) -> bool:
        """Return whether the event there was lost with the database before."""
        return self.replaced_at < position < self.begins_at
