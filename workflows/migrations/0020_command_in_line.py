"""A command knows the workflow of its run, so that a trigger finds those before it without reading runs."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import OuterRef, Q, Subquery

INDEX = models.Index(
    fields=["workflow", "id"], condition=Q(finished_at__isnull=True, kind="trigger"), name="command_in_line"
)


def fill(apps, schema_editor):
    """Only the pending ones are asked for it."""
    command, run = (apps.get_model("workflows", name) for name in ("AirflowCommand", "Run"))
    of_run = run.objects.filter(pk=OuterRef("run")).values("workflow")
    command.objects.filter(finished_at__isnull=True, run__isnull=False).update(workflow=Subquery(of_run))


def add_index(apps, schema_editor):
    # A table may be large, and nobody may write to it while PostgreSQL builds an index in the usual way.
    options = {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}
    schema_editor.add_index(apps.get_model("workflows", "AirflowCommand"), INDEX, **options)


def remove_index(apps, schema_editor):
    schema_editor.remove_index(apps.get_model("workflows", "AirflowCommand"), INDEX)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("workflows", "0019_recorded_of_tasks")]
    operations = [
        migrations.AddField(
            "airflowcommand",
            "workflow",
            models.ForeignKey(
                db_index=False, help_text="That of the run.", null=True, related_name="+",
                on_delete=django.db.models.deletion.CASCADE, to="workflows.workflow",
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, atomic=True),
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(add_index, remove_index, atomic=False)],
            [migrations.AddIndex("airflowcommand", INDEX)],
        ),
    ]
