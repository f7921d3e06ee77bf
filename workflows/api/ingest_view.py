"""Where Airflow's listener plugin posts to."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts import limits
from svops.api import error_body, error_headers
from svops.errors import InvalidInputError, SVOpsError
from workflows import ingest as listener
from workflows.airflow.errors import AirflowError

logger = logging.getLogger(__name__)


@csrf_exempt  # signed; no cookie plays a part
@require_POST
def ingest(request: HttpRequest) -> JsonResponse:
    """202 when the batch was taken. What Airflow would have to be asked about while it is down waits for a look."""
    try:
        limits.require(limits.Rate.INGEST, limits.by_address(request))
        if not settings.INGEST_SECRET:
            raise listener.NotSignedError("SVOPS_INGEST_SECRET is not set here: pushes are not accepted.")
        listener.check_signature(
            request.body,
            timestamp=request.headers.get("X-SVOps-Timestamp", ""),
            signature=request.headers.get("X-SVOps-Signature", ""),
            now=timezone.now(),
        )
        records = _records(request.body)
        with suppress(AirflowError):
            listener.take(records, now=timezone.now())
    except SVOpsError as exc:
        more: dict[str, Any] = {"errors": exc.errors} if isinstance(exc, InvalidInputError) else {}
        body = error_body(exc.code, str(exc), **more)
        return JsonResponse(body, status=exc.http_status, headers=error_headers(exc))
    return JsonResponse({"taken": len(records)}, status=HTTPStatus.ACCEPTED)


def _records(body: bytes) -> list[Any]:
    try:
        content = json.loads(body)
        records, dropped = content["records"], content.get("dropped", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidInputError({"records": ['Expected JSON: {"records": [...]}.']}) from exc
    if not isinstance(records, list):
        raise InvalidInputError({"records": ["Expected a list."]})
    if dropped:
        logger.warning("the listener has dropped records", extra={"dropped": dropped})
    return records
