from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class SVOpsConfig(AppConfig):
    name = "svops"

    def ready(self) -> None:
        connection_created.connect(_read_times, dispatch_uid="times")


def _read_times(*, connection: Any, **_: object) -> None:
    if connection.vendor == "postgresql":
        from svops.database_times import TimeLoader

        connection.connection.adapters.register_loader("timestamptz", TimeLoader)
