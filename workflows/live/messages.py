"""Reads the messages of a client on a stream. An error names the field and what was expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import User
from rest.errors import SVOpsError
from rest.ids import read_uuid
from workflows.eventlog import events
from workflows.live.hub import StreamFilter
from workflows.models import Run, Workflow


class BadMessageError(SVOpsError):
    """The stream cannot act on this message. The stream goes on."""

    code = "bad_message"


def parse(text: str | None) -> dict[str, Any]:
    """Parse a client's message, which must be a JSON object."""
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
    raise BadMessageError("after: expected a cursor, a whole number of 0 or more.")


def run_id(message: Mapping[str, Any]) -> UUID:
    try:
        return read_uuid(str(message.get("run_id")))
    except ValueError as exc:
        raise BadMessageError("run_id: expected a UUID.") from exc


def echo(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a subscription that its answer repeats."""
    return {name: message[name] for name in ("workflow_id", "run_id", "types") if name in message}


def subscription(message: Mapping[str, Any], *, url_filter: StreamFilter, user: User) -> StreamFilter:
    """Return the filter that a message asks for, within the filter of the stream's URL."""
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
        raise BadMessageError(f"workflow_id: there is no workflow {workflow_id}, or you cannot see it.")
    if None not in (workflow_id, url_filter.workflow_id) and workflow_id != url_filter.workflow_id:
        raise BadMessageError(f"workflow_id: this stream shows only workflow {url_filter.workflow_id}.")
    return replace(
        url_filter,
        workflow_id=workflow_id or url_filter.workflow_id,
        run_id=str(run.pk) if run else url_filter.run_id,
        types=frozenset(types) if types is not None else None,
    )


def visible_run(message: Mapping[str, Any], user: User) -> Run:
    """Return the run that a message names."""
    pk = run_id(message)
    run = Run.objects.visible_to(user).select_related("workflow__dag", "user").filter(pk=pk).first()
    if run is None:
        raise BadMessageError(f"run_id: there is no run {pk}, or you cannot see it.")
    return run
