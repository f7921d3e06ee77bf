"""A client as a product team writes it, over what openapi-python-client generates: mypy --strict checks it."""

from __future__ import annotations

from uuid import UUID

from svops_api import AuthenticatedClient
from svops_api.api.events import list_events
from svops_api.api.workflows import control_run, get_run, list_tasks, list_workflow_runs, trigger_run, trigger_runs
from svops_api.models import (
    BatchRequest,
    ControlAction,
    ControlRequest,
    Error,
    Run,
    RunDetail,
    RunState,
    TriggerRequest,
    TriggerWithTicketRequest,
    TriggerWithTicketRequestParameters,
    WorkflowFailedEvent,
)

client = AuthenticatedClient(base_url="http://127.0.0.1:8000", token="…")


def trigger(workflow: int, reference: int | str) -> Run:
    parameters = TriggerWithTicketRequestParameters.from_dict({"processing_time": 5})
    body = TriggerWithTicketRequest(caller_task_ref=reference, parameters=parameters)
    made = trigger_run.sync(workflow, client=client, body=body, idempotency_key=f"order-{reference}")
    if isinstance(made, Error):
        raise RuntimeError(f"{made.code}: {made.detail}")
    if not isinstance(made, Run):
        raise RuntimeError("it has not ended")
    return made


def trigger_all(workflow: int, references: list[int]) -> list[UUID]:
    body = BatchRequest(items=[TriggerRequest(caller_task_ref=reference) for reference in references])
    body.to_dict()
    answer = trigger_runs.sync(workflow, client=client, body=body)
    results = getattr(answer, "results", [])
    return [one.run.id for one in results]


def failed(workflow: int) -> int:
    found = list_workflow_runs.sync_detailed(workflow, client=client, state=[RunState.FAILED, RunState.STOPPED])
    return found.status_code


def stop(run: Run) -> None:
    control_run.sync(run.workflow_id, run.id, client=client, body=ControlRequest(action=ControlAction.STOP))


def words(run: Run) -> str:
    state: RunState = run.state
    now = get_run.sync(run.workflow_id, run.id, client=client)
    tasks = list_tasks.sync_detailed(run.workflow_id, run.id, client=client)
    return f"{state} {now.attempt if isinstance(now, RunDetail) else ''} {tasks.status_code} {run.caller_task_ref}"


def reasons() -> list[str]:
    page = list_events.sync(client=client)
    events = getattr(page, "results", [])
    return [event.data.reason for event in events if isinstance(event, WorkflowFailedEvent)]
