"""A client of SVOps: trigger workflows, follow them live, stop and retry them.

>>> from svops_client import Client
>>> svops = Client("https://svops.example.com", api_key="svops_…")
>>> run = svops.workflow("Simple workflow").trigger(processing_time=5)
>>> for event in run.follow():
...     print(event.type, event.task)
"""

from svops_client import events
from svops_client.aio import AsyncClient, AsyncRun, AsyncWorkflow
from svops_client.client import Client, Run, Workflow
from svops_client.envelope import Event
from svops_client.errors import (
    AmbiguousNameError,
    ApiError,
    AuthenticationError,
    ConflictError,
    ConnectionLostError,
    CursorGoneError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RunEndedBadlyError,
    SVOpsError,
    ThrottledError,
    TransportError,
    UnavailableError,
    WaitTimeoutError,
    WebhookError,
)
from svops_client.models import (
    Attempt,
    Explanation,
    Interval,
    LogLine,
    Me,
    Reason,
    Result,
    RunInfo,
    RunState,
    TaskInfo,
    TaskRef,
    Ticket,
    WorkflowInfo,
)
from svops_client.webhooks import Webhook, verify_webhook

__version__ = "0.1.0"
__all__ = [
    "AmbiguousNameError",
    "ApiError",
    "AsyncClient",
    "AsyncRun",
    "AsyncWorkflow",
    "Attempt",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "ConnectionLostError",
    "CursorGoneError",
    "Event",
    "Explanation",
    "Interval",
    "InvalidRequestError",
    "LogLine",
    "Me",
    "NotFoundError",
    "PermissionDeniedError",
    "Reason",
    "Result",
    "Run",
    "RunEndedBadlyError",
    "RunInfo",
    "RunState",
    "SVOpsError",
    "TaskInfo",
    "TaskRef",
    "ThrottledError",
    "Ticket",
    "TransportError",
    "UnavailableError",
    "WaitTimeoutError",
    "Webhook",
    "WebhookError",
    "Workflow",
    "WorkflowInfo",
    "events",
    "verify_webhook",
]
