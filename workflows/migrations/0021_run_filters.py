"""Indexes for the filters of the lists, for rare values, and for the search."""

import workflows.models.runs
from django.db import migrations, models

from rest.indexes import AddIndexOnline
from workflows.search import create_index, drop_index


class Migration(migrations.Migration):
    atomic = False

    dependencies = [('workflows', '0020_command_in_line')]

    operations = [
        AddIndexOnline(
            model_name='event',
            index=models.Index(condition=models.Q(('position__isnull', False), models.Q(('type__in', ('task.completed', 'task.started', 'workflow.completed', 'workflow.started', 'workflow.triggered')), _negated=True)), fields=['type', 'position'], name='event_by_rare_type'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(condition=models.Q(('state', 'success'), _negated=True), fields=['state', '-created_at', '-id'], name='run_by_state'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(condition=models.Q(('state', 'success'), _negated=True), fields=['workflow', 'state', '-created_at', '-id'], name='run_by_its_state'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(condition=models.Q(('trigger_type', 'api'), _negated=True), fields=['trigger_type', '-created_at', '-id'], name='run_by_trigger'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(condition=models.Q(('paused', True)), fields=['-created_at', '-id'], name='run_paused'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(workflows.models.runs.ReferenceText('task_id'), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('task_id__isnull', False)), name='run_by_task_id'),
        ),
        AddIndexOnline(
            model_name='run',
            index=models.Index(workflows.models.runs.ReferenceText('dataset_id'), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('dataset_id__isnull', False)), name='run_by_dataset_id'),
        ),
        migrations.RunPython(create_index, drop_index),
    ]
