"""The head of the audit trail, kept where the database cannot reach: in the log, in a file, and at a webhook.

Somebody who owns the database can cut off the end of the chain and move its head back; the rest of the chain is whole.
A head that was kept elsewhere then names a row that is missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import requests
from django.conf import settings
from django.utils import timezone

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Head:
    position: int
    hash: str


def keep(head: Head) -> None:
    """Write a committed head to the log and to the file. A file that cannot be written does not stop the change."""
    logger.info("audit trail sealed", extra=asdict(head))
    path = _file()
    if path is None:
        return
    last = kept()
    if last is not None and last.position >= head.position:
        return  # another process has sealed more rows meanwhile
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
            json.dump(asdict(head), file)
        Path(file.name).replace(path)
    except OSError as exc:
        logger.warning("head of the audit trail not kept", extra={"error": type(exc).__name__, "file": str(path)})


def kept() -> Head | None:
    """Return the head in the file; None if there is none."""
    path = _file()
    try:
        return Head(**json.loads(path.read_text())) if path is not None else None
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as exc:
        logger.warning("kept head of the audit trail not readable", extra={"error": type(exc).__name__})
        return None


def missing(holds: Callable[[Head], bool]) -> Head | None:
    """Return the kept head if the trail does not contain it, and log that: somebody has cut or replaced the trail."""
    head = kept()
    if head is None or holds(head):
        return None
    logger.error("audit trail cut: a head that was kept is missing", extra=asdict(head))
    return head


def post(head: Head, *, whole: bool) -> None:
    """Send the head to the webhook, if there is one. The receiver keeps it and compares."""
    if not settings.AUDIT_WEBHOOK_URL:
        return
    body = asdict(head) | {"whole": whole, "at": timezone.now().isoformat()}
    try:
        requests.post(settings.AUDIT_WEBHOOK_URL, json=body, timeout=settings.NOTIFICATION_TIMEOUT).raise_for_status()
    except requests.RequestException as exc:
        logger.warning("head of the audit trail not sent", extra={"error": type(exc).__name__})


def _file() -> Path | None:
    return None if settings.AUDIT_HEAD_FILE in {"", "off"} else Path(settings.AUDIT_HEAD_FILE)
