from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django import Settings

from tests.doctor.guarded import GuardedAirflow
from workflows.conftest import ada, etl, nightly

__all__ = ["ada", "etl", "nightly"]

Guard = Callable[..., GuardedAirflow]


@pytest.fixture
def guarded(settings: Settings) -> Iterator[Guard]:
    """Start an Airflow with these rights, to which the settings point."""
    with ExitStack() as servers:

        def start(allowed: set[str], **options: Any) -> GuardedAirflow:
            server = servers.enter_context(GuardedAirflow(allowed, **options))
            settings.AIRFLOW_URL = server.url
            settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
            return server

        yield start
