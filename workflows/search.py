"""The search for runs by a part of their texts, and the index that answers it on PostgreSQL.

The index needs PostgreSQL's own extension `pg_trgm`. Without it, or on SQLite, a search reads the runs one by one
until its deadline.
"""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Q

from workflows.models import Workflow

EXTENSION = "CREATE EXTENSION IF NOT EXISTS pg_trgm"
INDEX = "run_search"
# The same expressions as Django's `icontains`; otherwise the database would not use the index.
CREATE = f"""
    CREATE INDEX CONCURRENTLY {INDEX} ON workflows_run USING gin (
    UPPER(note::text) gin_trgm_ops, UPPER(state_reason::text) gin_trgm_ops, UPPER(dag_run_id::text) gin_trgm_ops)
"""
DROP = f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}"


def containing(text: str) -> Q:
    """Return the condition that the note, the reason, the workflow's name or the dag_run_id of a run has this text."""
    # Their ids, not a join: a condition on two tables cannot use an index.
    named = list(Workflow.objects.filter(name__icontains=text).order_by().values_list("pk", flat=True))
    return (
        Q(note__icontains=text)
        | Q(state_reason__icontains=text)
        | Q(dag_run_id__icontains=text)
        | Q(workflow__in=named)
    )


def create_index(apps: Any, schema_editor: Any) -> None:
    """Create the index on PostgreSQL; say what to do if the extension cannot be created. Outside of a transaction."""
    if schema_editor.connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=schema_editor.connection.alias):
            schema_editor.execute(EXTENSION)
    except DatabaseError as exc:
        print(  # noqa: T201
            f"\n    PostgreSQL's extension pg_trgm cannot be created: {str(exc).strip()}\n"
            f"    ?search= works without it, and reads the runs one by one until its deadline. To make it fast, let a "
            f"superuser run\n    {EXTENSION};\n    then run manage.py create_search_index.",
            end="",
        )
        return
    schema_editor.execute(DROP)
    schema_editor.execute(CREATE)


def drop_index(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP)


def create_search_index() -> None:
    """Create the index now, or again."""
    with connection.schema_editor(atomic=False) as schema_editor:
        create_index(None, schema_editor)
