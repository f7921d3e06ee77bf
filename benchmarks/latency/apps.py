"""Installs the marks in every process of SVOps that uses the benchmark's settings."""

from __future__ import annotations

from django.apps import AppConfig


class MarksConfig(AppConfig):
    name = "benchmarks.latency"
    label = "latency_marks"

    def ready(self) -> None:
        from benchmarks.latency import marks

        marks.install()
