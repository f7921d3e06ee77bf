"""Log lines that show the facts handed over as `extra={}`."""

from __future__ import annotations

import logging

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class PlainFormatter(logging.Formatter):
    """The usual line, followed by `name=value` for each extra."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the base class's
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in extras.items())])


class WithoutTrace(logging.Filter):
    """For a library that logs a failure which it expects with the whole trace: the kind of the error is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0]:
            record.error = record.exc_info[0].__name__
            record.exc_info = None
        return True
