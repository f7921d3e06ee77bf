"""The Airflows behind SVOps: how each is reached, and what is known of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from workflows.naming import DEFAULT, EXPECTED, PATTERN


class AirflowQuerySet(models.QuerySet["Airflow"]):
    def active(self) -> AirflowQuerySet:
        return self.filter(is_active=True)

    def ticked_at(self) -> datetime | None:
        """Return when beat ticked last, for any of them."""
        ticked_at: datetime | None = self.aggregate(last=models.Max("ticked_at"))["last"]
        return ticked_at


class _ByName(dict[str, "Airflow"]):
    """An Airflow that was deleted meanwhile is like one that is not active."""

    def __missing__(self, name: str) -> Airflow:
        return Airflow(name=name, is_active=False, reachable=False)


class Airflow(models.Model):
    """One Airflow: its name, the way to it, whether it answers, and up to when it was polled.

    Everything else names it by its name, which never changes.
    """

    name = models.CharField(
        max_length=50,
        unique=True,
        default=DEFAULT,
        validators=[RegexValidator(rf"\A{PATTERN}\Z", EXPECTED)],
    )
    options = models.JSONField(
        default=dict,
        blank=True,
        db_default=models.Value({}, output_field=models.JSONField()),
        help_text="The way to it, as the settings AIRFLOW_… describe that of the default one; without secrets.",
    )
    secrets = models.TextField(blank=True, db_default="", editable=False, help_text="The secret options, sealed.")
    is_active = models.BooleanField(default=True, db_default=True, help_text="False: nothing is asked of it.")
    from_file = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="AIRFLOWS_FILE describes it, or did."
    )
    drained_at = models.DateTimeField(null=True, blank=True, help_text="Takes no new runs since.")
    emptied_at = models.DateTimeField(null=True, blank=True, help_text="When the last run ended after that.")

    reachable = models.BooleanField(default=True)
    version = models.CharField(max_length=50, blank=True)
    last_error = models.TextField(blank=True)
    ticked_at = models.DateTimeField(null=True, blank=True, help_text="Beat's last tick, whatever came of it.")
    looked_at = models.DateTimeField(null=True, blank=True, help_text="The change feed has been read up to here.")
    swept_at = models.DateTimeField(null=True, blank=True)
    swept_run = models.UUIDField(
        null=True, blank=True, help_text="The next sweep of the runs that have begun goes on behind this one."
    )
    swept_queued_run = models.UUIDField(
        null=True, blank=True, help_text="The next sweep of the queued runs goes on behind this one."
    )
    compared_run = models.UUIDField(
        null=True, blank=True, help_text="The search for deleted runs goes on behind this one."
    )
    hidden_dags = models.JSONField(
        default=list,
        blank=True,
        help_text="The DAGs that Airflow hides from SVOps' user: nothing is known of their runs.",
    )
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker polls.")
    dags_leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker syncs the DAGs.")
    dispatch_leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker dispatches.")

    objects = AirflowQuerySet.as_manager()

    class Meta:
        # The processes of the version before go on with the table while those of this one start.
        db_table = "workflows_airflowstate"
        verbose_name = "Airflow"
        verbose_name_plural = "Airflows"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def named(cls, name: str) -> Airflow:
        """Return the row of that name. The default one is made if it is missing. Raises `Airflow.DoesNotExist`."""
        if name == DEFAULT:
            return cls.objects.get_or_create(name=DEFAULT)[0]
        return cls.objects.get(name=name)

    @classmethod
    def called(cls, name: str) -> str:
        """Return what a sentence begins with that is about this Airflow. While there is one, nobody knows its name."""
        return f"The Airflow {name}" if cls.objects.exclude(name=name).exists() else "Airflow"

    @classmethod
    def default(cls) -> Airflow:
        return cls.named(DEFAULT)

    @classmethod
    def by_name(cls) -> dict[str, Airflow]:
        """Return all of them, few as they are: for rows of which each names its own."""
        return _ByName((row.name, row) for row in list(cls.objects.all()) or [cls.default()])

    @classmethod
    def active_names(cls) -> list[str]:
        """Return the names of those that are asked, the default one first. A new database has just that one."""
        rows = dict(cls.objects.values_list("name", "is_active")) or {DEFAULT: True}
        return sorted((name for name, is_active in rows.items() if is_active), key=lambda name: (name != DEFAULT, name))

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT

    @property
    def is_drained(self) -> bool:
        return self.drained_at is not None

    @property
    def why_no_new_runs(self) -> str:
        """Return why it takes no new runs, or "" if it does."""
        # Without a look at the others: each row of a list has it.
        name = "Airflow" if self.is_default else f"The Airflow {self.name}"
        if not self.is_active:
            return f"{name} is not active: nothing is asked of it."
        return f"{name} is drained: it takes no new runs." if self.is_drained else ""

    def confirmed_at(self, observed_at: datetime | None, *, dag_id: str, ended: bool) -> datetime | None:
        """Return when Airflow last confirmed the state of a run of this DAG that was observed then."""
        if ended or observed_at is None or self.looked_at is None or dag_id in self.hidden_dags:
            return observed_at
        # A poll of the change feed that shows nothing new of an open run has confirmed it.
        return max(observed_at, self.looked_at)

    def is_run_stale(self, dag_id: str, *, now: datetime) -> bool:
        """Return whether what we know of a run of this DAG may be older than Airflow's."""
        return dag_id in self.hidden_dags or self.is_stale(now)

    def is_stale(self, now: datetime) -> bool:
        """Return whether our state may be older than Airflow's."""
        limit = timedelta(seconds=settings.STALE_AFTER)
        return not self.reachable or self.looked_at is None or now - self.looked_at > limit


class InAirflow(models.Model):
    """Base of what belongs to one Airflow.

    The column has no constraint in the database, because adding one to a large table reads all of it under a lock.
    """

    airflow = models.ForeignKey(
        Airflow,
        to_field="name",
        on_delete=models.PROTECT,
        default=DEFAULT,
        db_default=DEFAULT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )

    class Meta:
        abstract = True

    @property
    def airflow_name(self) -> str:
        return str(self.airflow_id)
