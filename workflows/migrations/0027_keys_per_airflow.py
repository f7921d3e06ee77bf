"""DAGs, runs, commands and rules name their Airflow; a DAG is unique in it."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('workflows', '0026_airflows'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='dag',
            options={'ordering': ['dag_id', 'airflow_id'], 'verbose_name': 'DAG', 'verbose_name_plural': 'DAGs'},
        ),
        migrations.RemoveConstraint(
            model_name='dagfileerror',
            name='dag_file_error_unique',
        ),
        migrations.RemoveConstraint(
            model_name='dagrule',
            name='dag_rule_unique_for_user',
        ),
        migrations.RemoveConstraint(
            model_name='dagrule',
            name='dag_rule_unique_for_group',
        ),
        migrations.RemoveConstraint(
            model_name='dagrule',
            name='dag_rule_unique_for_everybody',
        ),
        migrations.AddField(
            model_name='airflowcommand',
            name='airflow',
            field=models.ForeignKey(db_constraint=False, db_default='default', db_index=False, default='default', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workflows.airflow', to_field='name'),
        ),
        migrations.AddField(
            model_name='dag',
            name='airflow',
            field=models.ForeignKey(db_constraint=False, db_default='default', db_index=False, default='default', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workflows.airflow', to_field='name'),
        ),
        migrations.AddField(
            model_name='dagfileerror',
            name='airflow',
            field=models.ForeignKey(db_constraint=False, db_default='default', db_index=False, default='default', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workflows.airflow', to_field='name'),
        ),
        migrations.AddField(
            model_name='dagrule',
            name='airflow',
            field=models.CharField(blank=True, db_default='default', default='default', help_text='The name of the Airflow that has the DAGs; empty for every Airflow.', max_length=50),
        ),
        migrations.AddField(
            model_name='run',
            name='airflow',
            field=models.ForeignKey(db_constraint=False, db_default='default', db_index=False, default='default', on_delete=django.db.models.deletion.PROTECT, related_name='+', to='workflows.airflow', to_field='name'),
        ),
        migrations.AlterField(
            model_name='dag',
            name='dag_id',
            field=models.CharField(max_length=250),
        ),
        migrations.AddConstraint(
            model_name='dag',
            constraint=models.UniqueConstraint(models.F('dag_id'), models.F('airflow'), name='dag_unique_in_airflow'),
        ),
        migrations.AddConstraint(
            model_name='dagfileerror',
            constraint=models.UniqueConstraint(models.F('airflow'), models.F('bundle_name'), models.F('filename'), name='dag_file_error_unique'),
        ),
        migrations.AddConstraint(
            model_name='dagrule',
            constraint=models.UniqueConstraint(models.F('match'), models.F('value'), models.F('user'), models.F('airflow'), name='dag_rule_unique_for_user'),
        ),
        migrations.AddConstraint(
            model_name='dagrule',
            constraint=models.UniqueConstraint(models.F('match'), models.F('value'), models.F('group'), models.F('airflow'), name='dag_rule_unique_for_group'),
        ),
        migrations.AddConstraint(
            model_name='dagrule',
            constraint=models.UniqueConstraint(models.F('match'), models.F('value'), models.F('airflow'), condition=models.Q(('group__isnull', True), ('user__isnull', True)), name='dag_rule_unique_for_everybody'),
        ),
    ]
