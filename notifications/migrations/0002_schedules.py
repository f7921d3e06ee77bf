"""The schedules of the background work, as a start, and the config that gets the canary."""

from django.db import migrations

# name, task, every n seconds
SCHEDULES = [
    ("Deliver notifications", "notifications.tasks.deliver", 2),
    ("Canary of the notifications", "notifications.tasks.canary", 300),
    ("Forget old deliveries", "notifications.tasks.forget", 86400),
]
CANARY = "Canary of the alert path"


def create(apps, schema_editor):
    interval_model = apps.get_model("django_celery_beat", "IntervalSchedule")
    task_model = apps.get_model("django_celery_beat", "PeriodicTask")
    for name, task, every in SCHEDULES:
        interval, _ = interval_model.objects.get_or_create(every=every, period="seconds")
        task_model.objects.get_or_create(name=name, defaults={"task": task, "interval": interval})
    config_model = apps.get_model("notifications", "NotificationConfig")
    config_model.objects.get_or_create(
        name=CANARY, channel="canary", owner=None, defaults={"is_canary": True, "target_hint": "SVOps itself"}
    )


def remove(apps, schema_editor):
    tasks = [task for _, task, _ in SCHEDULES]
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(task__in=tasks).delete()
    apps.get_model("notifications", "NotificationConfig").objects.filter(channel="canary").delete()


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(create, remove)]
