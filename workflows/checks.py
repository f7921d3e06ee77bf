"""System checks that read the database: `manage.py migrate` and `manage.py check --database default` run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError

from accounts.models import Role, User
from workflows import dagrules
from workflows.dagrules import DagRule


@register(Tags.database)
def somebody_may_build(databases: Sequence[str] | None = None, **options: Any) -> list[CheckMessage]:
    """Warn if DAGs are closed and no rule opens one: then nobody but admins can create a workflow."""
    if not databases or dagrules.is_open():
        return []
    try:
        if DagRule.objects.exists() or not User.objects.exclude(role=Role.ADMIN).exists():
            return []
    except DatabaseError:
        return []  # before the first migration
    hint = "Add rules under /admin/workflows/dagrule/ or POST /api/v1/dag-rules, or set DAG_ACCESS=open."
    return [Warning("No DAG rule exists: only admins can create workflows.", hint=hint, id="workflows.W001")]
