"""The two forms of a log line: JSON for collectors, text for people.

Both show each `extra={}` by its name, and mask secrets.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from rest.masking import mask, mask_all, mask_queries
from rest.times import iso

# `color_message` is uvicorn's copy of the message with escape sequences; `time` and the like are names of ours.
NO_EXTRAS = [*RESERVED_ATTRS, "color_message", "time", "level", "logger"]


class JsonLines(JsonFormatter):
    """One JSON object a line: time, level, logger, message, request_id, the extras, and exc_info as a string."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"levelname": "level", "name": "logger"},
            reserved_attrs=NO_EXTRAS,
            json_encoder=Encoder,
        )

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["time"] = _time(record)
        super().add_fields(log_data, record, message_dict)
        log_data |= {name: mask_all(value) for name, value in log_data.items()}


class Encoder(JsonEncoder):
    def default(self, o: Any) -> Any:
        return _request(o) if isinstance(o, HttpRequest) else mask_all(super().default(o))


class TextLines(logging.Formatter):
    """`time level logger message name=value…`, then the lines of a traceback, indented.

    A message or a value that would be ambiguous is a JSON string, so every line can be parsed.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the base class's
        extras = {name: value for name, value in vars(record).items() if name not in NO_EXTRAS and value is not None}
        head = (_time(record), record.levelname, record.name, _quoted(mask(record.message), without='="'))
        return " ".join([*head, *(f"{name}={_value(value)}" for name, value in extras.items())])

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the base class's
        return mask(super().formatException(ei))

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


class WithoutTrace(logging.Filter):
    """For a library that logs an expected failure with its whole traceback: keeps the name of the error alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0]:
            record.error = record.exc_info[0].__name__
            record.exc_info = None
        return True


class RefusalsWarn(logging.Filter):
    """For Django's line about each answer from 500 on: a 503 is a refusal for now, which is no error of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", None) == HTTPStatus.SERVICE_UNAVAILABLE:
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


class WithoutSecrets(logging.Filter):
    """For URLs in messages, such as those of the web server: hides tickets, tokens and the like in their queries."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(mask_queries(arg) if isinstance(arg, str) else arg for arg in record.args)
        if isinstance(record.msg, str):
            record.msg = mask_queries(record.msg)
        return True


def _time(record: logging.LogRecord) -> str:
    return iso(datetime.fromtimestamp(record.created, UTC))


def _request(request: HttpRequest) -> str:
    """Without the query: it can hold a ticket."""
    return f"{request.method} {request.path}"


def _value(value: object) -> str:
    text = _request(value) if isinstance(value, HttpRequest) else mask(str(value))
    return _quoted(text, without=' ="')


def _quoted(text: str, *, without: str) -> str:
    """The text itself if it is printable and has none of these characters, else as a JSON string."""
    if text and text.isprintable() and not set(text) & set(without):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
