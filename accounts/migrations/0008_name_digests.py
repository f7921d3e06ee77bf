from django.db import migrations, models

from accounts.names import digests


def fill(apps, schema_editor):
    """Give each username its digests. Of those that look alike, the oldest account gets the first one.

    The others keep their names and work as before. Nobody can take such a name again, and an administrator decides
    whether they are to be renamed.
    """
    User = apps.get_model("accounts", "User")
    taken, alike = {}, []
    for user in User.objects.order_by("pk").only("pk", "username").iterator():
        folded, cased = digests(user.username)
        holder = taken.get(folded) or taken.get(cased)
        if holder:
            alike.append(f"{user.username} (id {user.pk}) looks like {holder}")
        User.objects.filter(pk=user.pk).update(
            name_digest=None if folded in taken else folded, cased_name_digest=cased
        )
        taken.setdefault(folded, f"{user.username} (id {user.pk})")
        taken.setdefault(cased, f"{user.username} (id {user.pk})")
    for line in alike:
        print(f"\n  accounts: {line}", end="")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_email_confirmed")]
    operations = [
        migrations.AddField("user", "name_digest", models.CharField(editable=False, max_length=64, null=True)),
        migrations.AddField(
            "user",
            "cased_name_digest",
            models.CharField(db_index=True, editable=False, max_length=64, null=True),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
