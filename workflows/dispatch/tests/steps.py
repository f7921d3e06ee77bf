"""Steps of the tests: trigger, dispatch what is pending, list it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from workflows import gateway, services
from workflows.dispatch import dispatcher, sending
from workflows.dispatch.sending import Sent
from workflows.models import Airflow, AirflowCommand, Run, TriggerType, Workflow
from workflows.naming import DEFAULT

TRIGGER = ("POST", "/dags/etl/dagRuns")


def trigger(workflow: Workflow, **asked: Any) -> Run:
    request = services.RunRequest(**asked)
    return services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)


def later(seconds: float = 0) -> Any:
    return timezone.now() + timedelta(seconds=seconds)


def dispatch_pending(command: AirflowCommand | None = None) -> bool:
    """Dispatch the pending commands, as if they were due by now."""
    AirflowCommand.objects.filter(finished_at__isnull=True).update(due_at=timezone.now())
    gateway.breaker(DEFAULT).close()
    Airflow.objects.update(reachable=True)
    if command:
        return was_taken(command)
    return dispatcher.dispatch_due(DEFAULT, now=timezone.now()) > 0


def was_taken(command: AirflowCommand) -> bool:
    """Dispatch a command. Return whether this was possible."""
    return sending.take_and_send(command, now=timezone.now()) != Sent.NOT_NOW


def waiting() -> list[str]:
    return [str(c.kind) for c in AirflowCommand.objects.filter(finished_at__isnull=True).order_by("id")]


def refreshed(run: Run) -> Run:
    run.refresh_from_db()
    return run
