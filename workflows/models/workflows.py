"""What can run, and for whom: our mirror of Airflow's DAGs, the workflows over them, and the grants on workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from accounts.models import UNBOUNDED
from workflows import dagrules
from workflows.dagrules import DagLevel, DagRule
from workflows.deeds import WORDS, Deed
from workflows.models.airflows import InAirflow
from workflows.naming import DEFAULT

if TYPE_CHECKING:
    from accounts.models import User
    from workflows.models.runs import Run


# A DAG may have hundreds of tasks: a list reads none of these.
LARGE_OF_DAG = ("doc_md", "params_schema", "tasks")


class DagQuerySet(models.QuerySet["Dag"]):
    def brief(self) -> DagQuerySet:
        """Read the DAGs without their large fields."""
        return self.defer(*LARGE_OF_DAG)

    def of(self, airflow: str) -> DagQuerySet:
        """Return the DAGs of the Airflow with this name."""
        return self.filter(airflow__name=airflow)

    def of_run(self, run: Run) -> DagQuerySet:
        """Return the DAG that the run runs in, where it does. Its workflow may have got another one since."""
        return self.filter(airflow__name=run.airflow_name, dag_id=run.dag_id)

    def visible_to(self, user: User | AnonymousUser) -> DagQuerySet:
        """Return the DAGs that `user` may know of: under a visible workflow, or open to the user by a rule.

        `audience.load_all` is the same rule for streams.
        """
        if not user.is_authenticated or not user.is_active:
            return self.none()
        in_use = Q(pk__in=Workflow.objects.visible_to(user).values("dag"))
        if user.bounds != UNBOUNDED:
            return self.filter(in_use)
        if user.is_superuser or dagrules.is_open():
            return self.all()
        return self.filter(in_use | Q(pk__in=_opened(user, DagLevel.BUILD)))

    def errors_readable_by(self, user: User | AnonymousUser) -> DagQuerySet:
        """Return the DAGs whose import error `user` may read. A restricted credential reads none.

        A traceback may quote the code of every DAG in the file, so the user must manage all of them.
        `audience.load_all` is the same rule for streams.
        """
        if not user.is_authenticated or not user.is_active or user.bounds != UNBOUNDED:
            return self.none()
        if user.is_superuser:
            return self.all()
        managed = set(_opened(user, DagLevel.MANAGE))
        if not managed:
            return self.none()
        files = Dag.objects.only("airflow", "bundle_name", "relative_fileloc", "fileloc")
        closed = {dag.file for dag in files if dag.pk not in managed} - {None}
        return self.filter(pk__in=[dag.pk for dag in files if dag.pk in managed and dag.file not in closed])


def _opened(user: User, level: DagLevel) -> list[int]:
    """Return the ids of the DAGs that a rule opens to the user. Databases have no common test for tags."""
    rules = list(DagRule.objects.held_by(user).of_level(level))
    dags = Dag.objects.values_list("pk", "airflow", "dag_id", "tags") if rules else ()
    return [pk for pk, *dag in dags if any(rule.opens(*dag) for rule in rules)]


# The file of a DAG: its Airflow, its bundle and its path there; without a bundle, its path.
DagFile = tuple[str, str, str]


class Dag(InAirflow):
    """Our mirror of one of an Airflow's DAGs, as of `synced_at`."""

    dag_id = models.CharField(max_length=250)
    description = models.TextField(blank=True)
    doc_md = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    owners = models.JSONField(default=list, blank=True)
    timetable_summary = models.CharField(max_length=250, blank=True)
    fileloc = models.CharField(max_length=1000, blank=True)
    bundle_name = models.CharField(max_length=250, blank=True)
    relative_fileloc = models.CharField(max_length=2000, blank=True, help_text="The file within its bundle.")
    max_active_runs = models.PositiveIntegerField(default=16)
    is_paused = models.BooleanField(default=False)
    is_present = models.BooleanField(default=True, help_text="Airflow still has it.")
    import_error = models.TextField(blank=True)
    unusable_reason = models.TextField(blank=True, help_text="Why SVOps cannot trigger it; empty if it can.")
    refused = models.JSONField(
        default=list, blank=True, help_text="What Airflow refused SVOps' user with this DAG when it last tried."
    )
    params_schema = models.JSONField(default=dict, blank=True, help_text="JSON schema of the run's parameters.")
    tasks = models.JSONField(default=list, blank=True, help_text="The task graph.")
    synced_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="When its parameters and tasks were read.")
    version = models.PositiveIntegerField(
        null=True, blank=True, help_text="Airflow's number of the version that was read; none in 2.11."
    )

    objects = DagQuerySet.as_manager()

    class Meta:
        verbose_name = "DAG"
        verbose_name_plural = "DAGs"
        # Not "airflow", which would join the table of Airflows.
        ordering = ["dag_id", "airflow_id"]
        constraints = [models.UniqueConstraint("dag_id", "airflow", name="dag_unique_in_airflow")]

    def __str__(self) -> str:
        return self.dag_id if self.airflow_name == DEFAULT else f"{self.dag_id} in {self.airflow_name}"

    @property
    def refused_reason(self) -> str:
        """Return what SVOps' user in Airflow may not do with the DAG, as a sentence; "" if nothing is known."""
        words = [WORDS[Deed(deed)] for deed in self.refused if deed in list(Deed)]
        return f"SVOps' user in Airflow may not {' or '.join(words)} this DAG." if words else ""

    @property
    def file(self) -> DagFile | None:
        if self.relative_fileloc:
            return (self.airflow_name, self.bundle_name, self.relative_fileloc)
        return (self.airflow_name, "", self.fileloc) if self.fileloc else None

    def of_same_file(self) -> DagQuerySet:
        """Return the known DAGs of its file, itself among them."""
        if self.file is None:
            return Dag.objects.filter(pk=self.pk)
        beside = Dag.objects.filter(airflow__name=self.airflow_name)
        if self.relative_fileloc:
            return beside.filter(bundle_name=self.bundle_name, relative_fileloc=self.relative_fileloc)
        return beside.filter(relative_fileloc="", fileloc=self.fileloc)


class DagFileError(InAirflow):
    """A DAG file that Airflow cannot import, as of the last sync, also if no DAG is known of it."""

    bundle_name = models.CharField(max_length=250, blank=True)
    filename = models.CharField(max_length=2000)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = "DAG file error"
        ordering = ["id"]
        constraints = [models.UniqueConstraint("airflow", "bundle_name", "filename", name="dag_file_error_unique")]

    def __str__(self) -> str:
        return f"{self.bundle_name}:{self.filename}" if self.bundle_name else self.filename


class Visibility(models.TextChoices):
    INTERNAL = "internal"  # everybody who is signed in may read it, users may trigger it
    PRIVATE = "private"  # only its owner, admins, and users with a grant


def is_unrestricted(user: User | AnonymousUser) -> bool:
    """Return whether the user may read every workflow, also those that were deleted."""
    return user.is_authenticated and user.is_active and user.is_superuser and user.bounds == UNBOUNDED


class WorkflowQuerySet(models.QuerySet["Workflow"]):
    def with_dag(self, *large: str) -> WorkflowQuerySet:
        """Read its DAG with each workflow; of the DAG's large fields, only those that are named."""
        return self.select_related("dag").defer(*(f"dag__{name}" for name in LARGE_OF_DAG if name not in large))

    def alive(self) -> WorkflowQuerySet:
        return self.filter(deleted_at__isnull=True)

    def visible_to(self, user: User | AnonymousUser) -> WorkflowQuerySet:
        """Return the workflows that `user` may read."""
        return self.remembered_by(user).alive()

    def remembered_by(self, user: User | AnonymousUser) -> WorkflowQuerySet:
        """Return the workflows whose runs and events `user` may read: the one rule for all of the API.

        These are the visible ones and the user's own deleted ones; for admins, all. `audience.load` is the same rule
        for streams.
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
    result_task = models.CharField(
        max_length=250,
        blank=True,
        default="",
        db_default="",
        help_text="The task of the DAG whose return value is the result of a run.",
    )
    adopts_airflow_runs = models.BooleanField(
        "adopts Airflow's runs",
        default=False,
        help_text="Chosen by an admin to get the runs that are started in Airflow itself.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Hidden since; its runs are kept.")

    objects = WorkflowQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                "owner", "name", condition=Q(deleted_at__isnull=True), name="workflow_name_unique_per_owner"
            ),
            models.UniqueConstraint(
                "dag",
                condition=Q(deleted_at__isnull=True, adopts_airflow_runs=True),
                name="one_adopter_per_dag",
                violation_error_message="Another workflow of this DAG is chosen to adopt its runs.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Level(models.TextChoices):
    """What a grant allows. Each level includes the one before it. The scopes of the user's role limit it."""

    VIEW = "view"
    RUN = "run"  # trigger and control too
    MANAGE = "manage"  # change, delete and grant too


class GrantQuerySet(models.QuerySet["Grant"]):
    def held_by(self, user: User) -> GrantQuerySet:
        """Return the grants of the user and of the user's groups."""
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
        return f"{self.user or self.group}: {self.level} on {self.workflow}"
