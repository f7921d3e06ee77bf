"""The schedules of the background work, as a start. Operators edit them in the admin."""

from django.db import migrations

# name, task, every n seconds
SCHEDULES = [
    ("Reconcile runs with Airflow", "workflows.tasks.reconcile", 2),
    ("Dispatch commands to Airflow", "workflows.tasks.dispatch", 2),
    ("Sync DAGs", "workflows.tasks.sync_dags", 60),
]


def create(apps, schema_editor):
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    task_model = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, task, every in SCHEDULES:
        interval, _ = interval_model.objects.get_or_create(every=every, period="seconds")
        task_model.objects.get_or_create(name=name, defaults={"task": task, "interval": interval})


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(
        task__in=[task for _, task, _ in SCHEDULES]
    ).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("workflows", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(create, remove)]
