"""Admin pages for workflows, runs and commands to Airflow.

They show rows and call the services for every change. Start with `pages`, the base of all of them.
"""

from workflows.admin import airflows, dag_rules, dags, log, runs, schedules, workflows

__all__ = ["airflows", "dag_rules", "dags", "log", "runs", "schedules", "workflows"]
