"""Hangs the marks into every process of SVOps that reads the benchmark's settings."""

from __future__ import annotations

from django.apps import AppConfig


class MarksConfig(AppConfig):
    name = "benchmarks.latency"
    label = "latency_marks"

    def ready(self) -> None:
        from benchmarks.latency import marks

        marks.hang_in()
