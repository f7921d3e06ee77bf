"""Logs of tasks in answers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rest.schema import ErrorSerializer


class LogLineSerializer(serializers.Serializer[Any]):
    timestamp = serializers.DateTimeField(allow_null=True, help_text="Null for a line without a time of its own.")
    level = serializers.CharField(allow_null=True)
    text = serializers.CharField()
    is_cut = serializers.BooleanField(help_text="Whether the line was longer; its text then says so at its end.")


class LogSerializer(serializers.Serializer[Any]):
    """Lines of the log of one attempt, oldest first."""

    task_id = serializers.CharField()
    map_index = serializers.IntegerField()
    try_number = serializers.IntegerField(help_text="The attempt; 0 for a task that has not begun.")
    state = serializers.CharField(allow_null=True, help_text="Airflow's word; null for an attempt before the newest.")
    lines = LogLineSerializer(many=True)
    cursor = serializers.CharField(help_text="Send it back to get the lines that follow.")
    has_more = serializers.BooleanField(help_text="Whether more lines can be read at once.")
    ended = serializers.BooleanField(help_text="Whether the log is complete: the process that wrote it is gone.")


class LogPreparingSerializer(serializers.Serializer[Any]):
    """Airflow has not sent what was asked for yet. Repeat the same request after `Retry-After` seconds."""

    code = serializers.ChoiceField(choices=["preparing"])
    detail = serializers.CharField()
    task_id = serializers.CharField()
    map_index = serializers.IntegerField()
    try_number = serializers.IntegerField()
    state = serializers.CharField(allow_null=True)
    waited_s = serializers.FloatField(help_text="Seconds since SVOps asked Airflow for the log.")


class LogNotFoundSerializer(ErrorSerializer):
    """Why there is no log."""

    map_indexes = serializers.ListField(
        child=serializers.IntegerField(), required=False, help_text="The instances of a mapped task: choose one."
    )
