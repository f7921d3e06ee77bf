from __future__ import annotations

import pytest

from workflows.models import Run, Workflow
from workflows.tests.stage import new_run


@pytest.fixture
def run(nightly: Workflow) -> Run:
    """A run that was dispatched, and not observed in Airflow yet."""
    return new_run(nightly)
