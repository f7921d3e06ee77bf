"""A subscription has a subject: a config whose filters name workflows, users, tags or states is found by these alone."""

from django.db import migrations, models

LONGEST_SUBJECT = 120
SUBJECTS = {"workflows": "workflow", "users": "user", "tags": "tag", "states": "state"}


def narrow(apps, schema_editor):
    subscriptions = apps.get_model("notifications", "Subscription").objects
    for config in apps.get_model("notifications", "NotificationConfig").objects.exclude(filters={}).iterator():
        subjects = subjects_of(config.filters)
        if not subjects:
            continue
        for row in list(subscriptions.filter(config=config, subject="")):
            subscriptions.bulk_create(
                [subscriptions.model(config=config, type=row.type, subject=subject) for subject in subjects],
                ignore_conflicts=True,
            )
            row.delete()


def subjects_of(filters):
    for name, subject in SUBJECTS.items():
        if filters.get(name):
            return sorted({f"{subject}:{value}"[:LONGEST_SUBJECT] for value in filters[name]})
    return []


def widen(apps, schema_editor):
    subscriptions = apps.get_model("notifications", "Subscription").objects
    kept = subscriptions.values("config", "type").annotate(first=models.Min("pk")).values("first")
    subscriptions.exclude(pk__in=list(kept.values_list("first", flat=True))).delete()


class Migration(migrations.Migration):
    dependencies = [("notifications", "0006_link_mails")]

    operations = [
        migrations.AddField(
            model_name="subscription",
            name="subject",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Empty for every event of the type.",
                max_length=LONGEST_SUBJECT,
            ),
        ),
        migrations.AlterModelOptions(name="subscription", options={"ordering": ["type", "subject"]}),
        migrations.AlterField(model_name="subscription", name="type", field=models.CharField(max_length=40)),
        migrations.AddConstraint(
            model_name="subscription",
            constraint=models.UniqueConstraint("config", "type", "subject", name="subscription_unique_for_subject"),
        ),
        migrations.RemoveConstraint(model_name="subscription", name="subscription_unique"),
        migrations.AddIndex(
            model_name="subscription",
            index=models.Index(fields=["type", "subject"], name="subscription_by_subject"),
        ),
        migrations.RunPython(narrow, widen),
    ]
