"""Operators' pages for workflows, their runs and what we owe Airflow; what they change goes through the services."""

from workflows.admin import dags, log, runs, workflows

__all__ = ["dags", "log", "runs", "workflows"]
