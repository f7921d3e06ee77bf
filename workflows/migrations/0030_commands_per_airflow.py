"""What is owed to one Airflow is found without reading what is owed to another, which may be away for long."""

from django.db import migrations, models

from rest.indexes import AddIndexOnline


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('workflows', '0029_airflow_from_file'),
    ]

    operations = [
        AddIndexOnline(
            model_name='airflowcommand',
            index=models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['airflow', 'due_at'], name='command_owed_to'),
        ),
        migrations.RemoveIndex(model_name='airflowcommand', name='command_owed'),
    ]
