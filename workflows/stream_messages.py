"""Reads what a client says on a stream; what it gets wrong is told with the field and what was expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import User
from svops.errors import SVOpsError
from workflows import events
from workflows.hub import Wanted
from workflows.models import Run, Workflow


class BadMessageError(SVOpsError):
    """A message that the stream can not act on; the stream goes on."""

    code = "bad_message"


def parse(text: str | None) -> dict[str, Any]:
    """A client's message: a JSON object."""
    if text is None or len(text) > settings.STREAM_MESSAGE_BYTES:
        raise BadMessageError(f"Expected a text message of at most {settings.STREAM_MESSAGE_BYTES} characters.")
    message: Any = None
    with suppress(ValueError, RecursionError):
        message = json.loads(text)
    if not isinstance(message, dict):
        raise BadMessageError('Expected a JSON object with a "type".')
    return message


def cursor(raw: object) -> int:
    with suppress(ValueError):
        value = int(str(raw))
        if value >= 0:
            return value
    raise BadMessageError("after: expected a cursor, which is a whole number.")


def run_id(message: Mapping[str, Any]) -> UUID:
    try:
        return UUID(str(message.get("run_id")))
    except ValueError as exc:
        raise BadMessageError("run_id: expected a UUID.") from exc


def echo(message: Mapping[str, Any]) -> dict[str, Any]:
    """What a subscription names, for the answer to it."""
    return {name: message[name] for name in ("workflow_id", "run_id", "types") if name in message}


def wanted(message: Mapping[str, Any], *, route: Wanted, user: User) -> Wanted:
    """The subscription that a message names, within the bounds of the stream's route."""
    types = message.get("types")
    if types is not None and not (isinstance(types, list) and set(map(str, types)) <= events.CATALOGUE.keys()):
        raise BadMessageError(f"types: expected a list of {', '.join(sorted(events.CATALOGUE))}.")
    workflow_id = message.get("workflow_id")
    if workflow_id is not None and (not isinstance(workflow_id, int) or isinstance(workflow_id, bool)):
        raise BadMessageError("workflow_id: expected a whole number.")
    run = visible_run(message, user) if "run_id" in message else None
    if run is None and workflow_id is None and types is None:
        raise BadMessageError("Expected one of workflow_id, run_id, types.")
    if workflow_id is not None and not Workflow.objects.remembered_by(user).filter(pk=workflow_id).exists():
        raise BadMessageError(f"workflow_id: there is no workflow {workflow_id}, or none that you may see.")
    if None not in (workflow_id, route.workflow_id) and workflow_id != route.workflow_id:
        raise BadMessageError(f"workflow_id: this stream is of workflow {route.workflow_id} alone.")
    return replace(
        route,
        workflow_id=workflow_id or route.workflow_id,
        run_id=str(run.pk) if run else route.run_id,
        types=frozenset(types) if types is not None else None,
    )


def visible_run(message: Mapping[str, Any], user: User) -> Run:
    """The run that a message names."""
    wanted_id = run_id(message)
    run = Run.objects.visible_to(user).select_related("workflow__dag", "user").filter(pk=wanted_id).first()
    if run is None:
        raise BadMessageError(f"run_id: there is no run {wanted_id}, or none that you may see.")
    return run
