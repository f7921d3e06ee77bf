"""Where sweeps go on, what was read of a DAG, and an index of the tasks that wait to go on."""

from django.db import migrations, models
from django.db.models import Q

WAITING = ["awaiting_input", "deferred", "queued", "scheduled", "up_for_reschedule"]
INDEX = models.Index(fields=["run"], condition=Q(state__in=WAITING), name="task_waiting")


def add_index(apps, schema_editor):
    # The table may be large, and nobody may write to it while PostgreSQL builds an index in the usual way.
    options = {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}
    schema_editor.add_index(apps.get_model("workflows", "TaskInstance"), INDEX, **options)


def remove_index(apps, schema_editor):
    schema_editor.remove_index(apps.get_model("workflows", "TaskInstance"), INDEX)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("workflows", "0017_keep_workflows")]
    operations = [
        migrations.AddField(
            "airflowstate",
            "dags_leased_until",
            models.DateTimeField(blank=True, help_text="While a worker syncs the DAGs.", null=True),
        ),
        migrations.AddField(
            "airflowstate",
            "swept_run",
            models.UUIDField(
                blank=True, help_text="The next sweep of the runs that have begun goes on behind this one.", null=True
            ),
        ),
        migrations.AddField(
            "airflowstate",
            "swept_queued_run",
            models.UUIDField(
                blank=True, help_text="The next sweep of the queued runs goes on behind this one.", null=True
            ),
        ),
        migrations.AddField(
            "dag",
            "read_at",
            models.DateTimeField(blank=True, help_text="When its parameters and tasks were read.", null=True),
        ),
        migrations.AddField(
            "dag",
            "version",
            models.PositiveIntegerField(
                blank=True, help_text="Airflow's number of the version that was read; none in 2.11.", null=True
            ),
        ),
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(add_index, remove_index, atomic=False)],
            [migrations.AddIndex("taskinstance", INDEX)],
        ),
    ]
