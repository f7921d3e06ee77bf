"""The few events about a DAG are found without reading the whole log. The index serves the foreign key too."""

from django.db import migrations, models

from rest.indexes import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('workflows', '0024_hidden_dags'),
    ]

    operations = [
        AddIndexOnline(
            model_name='event',
            index=models.Index(condition=models.Q(('dag__isnull', False)), fields=['dag', 'timestamp'], name='event_of_dag'),
        ),
    ]
