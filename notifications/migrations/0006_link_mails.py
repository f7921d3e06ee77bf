"""Links to recipients of e-mail become rows that a worker sends, with a schedule."""

from django.conf import settings
from django.db import migrations, models


TASK = "notifications.tasks.send_links"


def schedule(apps, schema_editor):
    interval, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(every=5, period="seconds")
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name="Send links to recipients", defaults={"task": TASK, "interval": interval}
    )


def unschedule(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(task=TASK).delete()


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0005_mail_consents'),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='mailconsent',
            name='link_due_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='When a link is sent next.', null=True),
        ),
        migrations.AddField(
            model_name='mailconsent',
            name='link_tries',
            field=models.PositiveSmallIntegerField(default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='mailconsent',
            name='asked_at',
            field=models.DateTimeField(blank=True, help_text='When the last link was sent.', null=True),
        ),
        migrations.AddIndex(
            model_name='mailconsent',
            index=models.Index(models.F('link_due_at'), condition=models.Q(('link_due_at__isnull', False)), name='mail_link_due'),
        ),
        migrations.RunPython(schedule, unschedule),
    ]
