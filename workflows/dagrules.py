"""Rules that open DAGs to users: admins decide who may build workflows on which DAG.

`DagQuerySet` and `workflows.access` ask here. They know the setting DAG_ACCESS and the rights of admins too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from workflows.naming import DEFAULT

if TYPE_CHECKING:
    from accounts.models import User


class DagMatch(models.TextChoices):
    """How a rule names DAGs."""

    ALL = "all", "every DAG"
    DAG_ID = "dag_id", "the DAG with this dag_id"
    PREFIX = "prefix", "DAGs whose dag_id begins like this"
    TAG = "tag", "DAGs with this tag"


class DagLevel(models.TextChoices):
    """What a rule allows. `manage` includes `build`."""

    BUILD = "build", "build workflows on it"
    MANAGE = "manage", "read its author's errors too"


class DagRuleQuerySet(models.QuerySet["DagRule"]):
    def held_by(self, user: User) -> DagRuleQuerySet:
        """Return the rules for the user, for the user's groups, and for everybody."""
        in_groups = Q(group__in=user.groups.values("pk"))
        return self.filter(Q(user=user) | in_groups | Q(user__isnull=True, group__isnull=True))

    def of_level(self, level: DagLevel) -> DagRuleQuerySet:
        """Return the rules that allow this level."""
        return self.filter(level=DagLevel.MANAGE) if level == DagLevel.MANAGE else self


class DagRule(models.Model):
    """Opens the DAGs that it matches to a user, to a group, or, without both, to everybody."""

    airflow = models.CharField(
        max_length=50,
        blank=True,
        default=DEFAULT,
        db_default=DEFAULT,
        help_text="The name of the Airflow that has the DAGs; empty for every Airflow.",
    )
    match = models.CharField(max_length=10, choices=DagMatch)
    value = models.CharField(
        max_length=250, blank=True, help_text="The dag_id, its beginning, or the tag; empty for every DAG."
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="dag_rules"
    )
    group = models.ForeignKey("auth.Group", on_delete=models.CASCADE, null=True, blank=True, related_name="dag_rules")
    level = models.CharField(max_length=10, choices=DagLevel, default=DagLevel.BUILD)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DagRuleQuerySet.as_manager()

    class Meta:
        verbose_name = "DAG rule"
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True) | Q(group__isnull=True), name="dag_rule_for_a_user_or_a_group"
            ),
            models.CheckConstraint(
                condition=Q(match=DagMatch.ALL, value="") | ~Q(match=DagMatch.ALL) & ~Q(value=""),
                name="dag_rule_has_a_value",
            ),
            models.UniqueConstraint("match", "value", "user", "airflow", name="dag_rule_unique_for_user"),
            models.UniqueConstraint("match", "value", "group", "airflow", name="dag_rule_unique_for_group"),
            models.UniqueConstraint(
                "match",
                "value",
                "airflow",
                condition=Q(user__isnull=True, group__isnull=True),
                name="dag_rule_unique_for_everybody",
            ),
        ]

    def __str__(self) -> str:
        what = self.value if self.match == DagMatch.DAG_ID else f"{self.match} {self.value}".strip()
        where = "" if self.airflow == DEFAULT else f" on {self.airflow or 'every Airflow'}"
        return f"{what}{where} for {self.user or self.group or 'everybody'}: {self.level}"

    def allows(self, level: DagLevel) -> bool:
        return level in (DagLevel.BUILD, self.level)

    def opens(self, airflow: str, dag_id: str, tags: Collection[str]) -> bool:
        """Return whether the rule matches a DAG of that Airflow. Capital letters count, on every database."""
        if self.airflow not in ("", airflow):
            return False
        match self.match:
            case DagMatch.ALL:
                return True
            case DagMatch.DAG_ID:
                return dag_id == self.value
            case DagMatch.PREFIX:
                return dag_id.startswith(self.value)
            case DagMatch.TAG:
                return self.value in tags
            case _:
                return False


def is_open() -> bool:
    """Return whether everybody may build on every DAG, without any rule."""
    return bool(settings.DAG_ACCESS == "open")
