from django.db import migrations, models


class Migration(migrations.Migration):
    # Apart from the step before: PostgreSQL changes no table in the transaction that has changed its rows.
    dependencies = [("accounts", "0008_name_digests")]
    operations = [
        migrations.AddConstraint(
            "user", models.UniqueConstraint(models.F("name_digest"), name="user_name_digest_unique")
        ),
    ]
