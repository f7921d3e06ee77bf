"""Retention runs once a day."""

from django.db import migrations


def create(apps, schema_editor):
    interval, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=1, period="days"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name="Clean up", defaults={"task": "svops.tasks.cleanup", "interval": interval}
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(task="svops.tasks.cleanup").delete()


class Migration(migrations.Migration):
    dependencies = [("workflows", "0004_log_cut"), ("django_celery_beat", "0019_alter_periodictasks_options")]
    operations = [migrations.RunPython(create, remove)]
