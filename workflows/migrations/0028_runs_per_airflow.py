"""A run is unique in its Airflow. The table may be large, so the new index comes first, while others write."""

from django.db import migrations, models

from rest.indexes import AddIndexOnline, AddUniqueOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('workflows', '0027_keys_per_airflow'),
    ]

    operations = [
        AddUniqueOnline(
            model_name='run',
            constraint=models.UniqueConstraint(models.F('dag_id'), models.F('dag_run_id'), models.F('airflow'), name='run_unique_per_airflow'),
        ),
        migrations.RemoveConstraint(model_name='run', name='run_unique_in_airflow'),
        AddIndexOnline(
            model_name='run',
            index=models.Index(condition=models.Q(('airflow', 'default'), _negated=True), fields=['airflow', '-created_at', '-id'], name='run_by_airflow'),
        ),
    ]
