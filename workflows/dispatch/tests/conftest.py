from __future__ import annotations

import pytest

from workflows.dispatch.tests.steps import trigger
from workflows.models import Airflow, AirflowCommand, Workflow
from workflows.tests.stage import StagedAirflow


@pytest.fixture
def pending(airflow: StagedAirflow, nightly: Workflow) -> AirflowCommand:
    """A trigger that is not dispatched yet."""
    Airflow.default()
    Airflow.objects.update(reachable=False)
    trigger(nightly)
    Airflow.objects.update(reachable=True)
    return AirflowCommand.objects.get()
