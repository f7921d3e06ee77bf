"""A stop is complete when the process of each task is known to be gone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workflows", "0007_grants")]

    operations = [
        migrations.AddField(
            model_name="taskinstance",
            name="receipt_try",
            field=models.PositiveIntegerField(
                default=0, help_text="The newest try with an exit proof."
            ),
        ),
    ]
