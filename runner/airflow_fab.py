"""A real Airflow 3 whose rights are given one by one (FAB), for the tests: not part of `make up`."""

from __future__ import annotations

from runner import airflow
from runner.home import REPOSITORY

# - cache_ttl: Airflow remembers the rights of a user for 30 s; the tests change them.
CONFIG = (
    airflow.CONFIG.replace(
        "[core]\n", "[core]\nauth_manager = airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager\n"
    )
    + """
[fab]
cache_ttl = 0
"""
)


class AirflowFab(airflow.Airflow):
    environment = REPOSITORY / ".venv-airflow-fab"
    lock_file = REPOSITORY / "requirements-airflow-fab.txt"
    config = CONFIG

    def _make_database(self) -> None:
        super()._make_database()
        self._create_admin()
