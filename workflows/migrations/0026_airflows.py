"""The one row about Airflow gets a name, so that there can be more. Its table keeps its name: the processes of the
version before go on with it while those of this one start."""

import django.core.validators
from django.db import migrations, models


def make_the_default(apps, schema_editor):
    apps.get_model("workflows", "Airflow").objects.get_or_create(pk=1, defaults={"name": "default"})
    if schema_editor.connection.vendor == "postgresql":
        # The version before gave the row its id itself.
        schema_editor.execute(
            "SELECT setval(pg_get_serial_sequence('workflows_airflowstate', 'id'),"
            " (SELECT max(id) FROM workflows_airflowstate))"
        )


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0025_events_of_a_dag'),
    ]

    operations = [
        migrations.AlterModelTable(name='airflowstate', table='workflows_airflowstate'),
        migrations.RenameModel(old_name='AirflowState', new_name='Airflow'),
        migrations.AlterModelOptions(
            name='airflow',
            options={'ordering': ['id'], 'verbose_name': 'Airflow', 'verbose_name_plural': 'Airflows'},
        ),
        migrations.RemoveConstraint(model_name='airflow', name='one_airflow_state'),
        migrations.AddField(
            model_name='airflow',
            name='name',
            field=models.CharField(default='default', max_length=50, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9]+(?:-[a-z0-9]+)*\\Z', 'Lower-case letters and digits, with single hyphens between them.')]),
        ),
        migrations.AddField(
            model_name='airflow',
            name='options',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict, help_text='The way to it, as the settings AIRFLOW_… describe that of the default one; without secrets.'),
        ),
        migrations.AddField(
            model_name='airflow',
            name='secrets',
            field=models.TextField(blank=True, db_default='', editable=False, help_text='The secret options, sealed.'),
        ),
        migrations.AddField(
            model_name='airflow',
            name='is_active',
            field=models.BooleanField(db_default=True, default=True, help_text='False: nothing is asked of it.'),
        ),
        migrations.AddField(
            model_name='airflow',
            name='drained_at',
            field=models.DateTimeField(blank=True, help_text='Takes no new runs since.', null=True),
        ),
        migrations.AddField(
            model_name='airflow',
            name='emptied_at',
            field=models.DateTimeField(blank=True, help_text='When the last run ended after that.', null=True),
        ),
        migrations.RunPython(make_the_default, migrations.RunPython.noop),
    ]
