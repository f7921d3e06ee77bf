from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workflows", "0018_constant_polls")]

    operations = [
        migrations.AddField(
            "taskinstance",
            "start_recorded",
            models.BooleanField(editable=False, help_text="Empty if only the log knows.", null=True),
        ),
        migrations.AddField(
            "taskinstance",
            "end_recorded",
            models.CharField(blank=True, db_default="", default="", editable=False, max_length=40),
        ),
        migrations.AddField(
            "taskinstance",
            "recorded_from",
            models.PositiveIntegerField(editable=False, help_text="Empty if only the log knows.", null=True),
        ),
    ]
