"""Keep what exists working under DAG rules, and say so: nobody is locked out of a workflow by an upgrade."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from rest.masking import mask


def keep_workflows(apps: Any, schema_editor: Any) -> None:
    """Give the owner of each workflow a rule for its DAG. Admins need none."""
    workflows = apps.get_model("workflows", "Workflow").objects.filter(deleted_at=None).exclude(owner__role="admin")
    rules = apps.get_model("workflows", "DagRule").objects
    held = sorted(set(workflows.order_by().values_list("owner_id", "dag__dag_id")))
    for owner_id, dag_id in held:
        rules.get_or_create(match="dag_id", value=dag_id, user_id=owner_id, group_id=None)
    if held:
        print(f"\n    {len(held)} DAG rules keep the workflows working that exist. See docs/security.md.", end="")  # noqa: T201


def say_which_dag(apps: Any, schema_editor: Any) -> None:
    """Give the old events about DAGs their DAG, and mask secrets. What has no DAG is for admins only."""
    events = apps.get_model("workflows", "Event").objects
    pk_of = dict(apps.get_model("workflows", "Dag").objects.values_list("dag_id", "pk"))
    for event in events.filter(type__startswith="dag.", dag=None).only("pk", "data").iterator():
        named = [event.data.get("dag_id"), *(event.data.get("dag_ids") or [])]
        known = [pk_of[dag_id] for dag_id in named if dag_id in pk_of]
        data = {name: mask(value) if name == "error" else value for name, value in event.data.items()}
        events.filter(pk=event.pk).update(dag_id=known[0] if known else None, data=data)


class Migration(migrations.Migration):
    dependencies = [("workflows", "0016_dag_rules"), ("accounts", "0004_identities")]

    operations = [
        migrations.RunPython(keep_workflows, migrations.RunPython.noop),
        migrations.RunPython(say_which_dag, migrations.RunPython.noop),
    ]
