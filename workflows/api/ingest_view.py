"""The endpoint that Airflow's listener plugin pushes to."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts import limits
from rest.error_responses import response_to
from rest.errors import InvalidInputError, SVOpsError
from workflows import way_in
from workflows.airflow.errors import AirflowError
from workflows.naming import DEFAULT
from workflows.watch import arrivals
from workflows.watch import push as listener

logger = logging.getLogger(__name__)


@csrf_exempt  # the request is signed and uses no cookie
@require_POST
def ingest(request: HttpRequest, airflow: str = DEFAULT) -> JsonResponse:
    """Take a batch and answer 202. Records that need a question to Airflow while it is down wait for the next poll."""
    try:
        _require_signature(request, airflow)
        records, told = _read(request.body)
        if records:
            arrivals.note(airflow, version=told.version, dropped=told.dropped, now=timezone.now())
        with suppress(AirflowError):
            listener.receive(airflow, records, now=timezone.now())
    except SVOpsError as exc:
        return response_to(exc)
    return JsonResponse({"taken": len(records)}, status=HTTPStatus.ACCEPTED)


def _require_signature(request: HttpRequest, airflow: str) -> None:
    """Only what is not signed counts against the limit: a busy Airflow pushes more often than a limit could allow."""
    try:
        listener.check_signature(
            request.body,
            secret=_secret_of(airflow),
            timestamp=request.headers.get("X-SVOps-Timestamp", ""),
            signature=request.headers.get("X-SVOps-Signature", ""),
            now=timezone.now(),
        )
    except listener.NotSignedError:
        limits.require(limits.Rate.INGEST, limits.by_address(request))
        raise


def _secret_of(airflow: str) -> str:
    """Return the secret of an Airflow. A stranger must not learn which names there are, so an unknown one has none."""
    try:
        secret = way_in.ingest_secret(airflow)
    except AirflowError:
        secret = ""
    if not secret and airflow == DEFAULT:
        raise listener.NotSignedError("SVOPS_INGEST_SECRET is not set here: pushes are refused.")
    return secret


class _Told(NamedTuple):
    """What the listener tells of itself."""

    version: str
    dropped: int


def _read(body: bytes) -> tuple[list[Any], _Told]:
    try:
        content = json.loads(body)
        records = content["records"]
        told = _Told(version=str(content.get("version", "1"))[:20], dropped=int(content.get("dropped", 0)))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidInputError({"records": ['Expected JSON: {"records": [...]}.']}) from exc
    if not isinstance(records, list):
        raise InvalidInputError({"records": ["Expected a list."]})
    if told.dropped:
        logger.warning("the listener dropped records", extra={"dropped": told.dropped})
    return records, told
