"""What the processes log: every line can be parsed, in both forms, whatever a message holds."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response
from django_guid import clear_guid, set_guid
from django_guid.log_filters import CorrelationId

from runner.ports import free_port
from svops.logging import JsonLines, TextLines
from tests.deploy.compose import REPOSITORY

AWKWARD = 'first line\nINFO "quoted" \\ a=b \x1b[31m\u2028 ünï'
_STRING = r'"(?:[^"\\]|\\.)*"'
TEXT_LINE = re.compile(
    rf'(?P<time>\S+Z) (?P<level>[A-Z]+) (?P<logger>\S+) (?P<message>{_STRING}|[^"=]*?)'
    rf'(?P<extras>(?: \w+=(?:{_STRING}|[^ "=]+))*)'
)
EXTRA = re.compile(rf" (\w+)=({_STRING}|\S+)")

Written = Callable[[], str]


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.lines")
    logger.propagate = False
    set_guid("5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5")
    yield logger
    clear_guid()
    logger.handlers.clear()


def written_by(log: logging.Logger, formatter: logging.Formatter) -> Written:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(CorrelationId("request_id"))
    log.addHandler(handler)
    return stream.getvalue


def unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


def parsed(line: str) -> dict[str, str]:
    match = TEXT_LINE.fullmatch(line)
    assert match, line
    fixed = {name: unquoted(value) for name, value in match.groupdict().items() if name != "extras"}
    return fixed | {name: unquoted(value) for name, value in EXTRA.findall(match["extras"])}


def divide_by_zero(log: logging.Logger) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("failed", extra={"reason": AWKWARD})


def test_a_json_line_holds_the_message_the_request_id_and_every_extra(log: logging.Logger) -> None:
    written = written_by(log, JsonLines())

    log.warning(AWKWARD, extra={"run_id": "7", "reason": AWKWARD, "tasks": ["a", "b"], "after": None})

    line = json.loads(written())
    assert abs(datetime.fromisoformat(line.pop("time")) - datetime.now(UTC)).total_seconds() < 60
    assert line == {
        "level": "WARNING",
        "logger": "tests.lines",
        "message": AWKWARD,
        "request_id": "5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5",
        "run_id": "7",
        "reason": AWKWARD,
        "tasks": ["a", "b"],
        "after": None,
    }


def test_a_traceback_is_one_string_of_the_json_line(log: logging.Logger) -> None:
    written = written_by(log, JsonLines())

    divide_by_zero(log)

    [line] = written().splitlines()
    assert json.loads(line)["exc_info"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("text", [AWKWARD, "plain words", "", "=", '"', "ends with a backslash\\", "x reason=forged"])
def test_a_text_line_can_be_parsed_back(log: logging.Logger, text: str) -> None:
    written = written_by(log, TextLines())

    log.info(text, extra={"reason": text, "run_id": 7})

    [line] = written().splitlines()
    read = parsed(line)
    assert (read["level"], read["logger"], read["message"]) == ("INFO", "tests.lines", text)
    assert (read["reason"], read["run_id"], read["request_id"]) == (text, "7", "5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5")


def test_a_text_line_of_plain_words_is_easy_to_read(log: logging.Logger) -> None:
    written = written_by(log, TextLines())

    log.info("delivery sent", extra={"delivery_id": 2, "channel": "slack", "reason": "not now"})

    assert re.sub(r"^\S+ ", "", written()).strip() == (
        'INFO tests.lines delivery sent delivery_id=2 channel=slack reason="not now" '
        "request_id=5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5"
    )


def test_the_lines_of_a_traceback_are_indented_below_the_text_line(log: logging.Logger) -> None:
    written = written_by(log, TextLines())

    divide_by_zero(log)

    first, *trace = written().splitlines()
    assert (parsed(first)["message"], parsed(first)["reason"]) == ("failed", AWKWARD)
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    ZeroDivisionError: division by zero"
    assert all(line.startswith("    ") for line in trace)


@pytest.mark.parametrize(
    ("status", "level"), [(400, "WARNING"), (429, "WARNING"), (500, "ERROR"), (502, "ERROR"), (503, "WARNING")]
)
def test_a_refusal_for_now_is_a_warning(caplog: pytest.LogCaptureFixture, status: int, level: str) -> None:
    """Before: each 503 `busy` was an error in the log, as if something of ours had broken."""
    log_response("refused", response=HttpResponse(status=status), request=RequestFactory().get("/api/v1/runs"))

    assert [(record.name, record.levelname) for record in caplog.records] == [("django.request", level)]


def lines_of(command: list[str], *, until: str, then: Callable[[], None] = lambda: None) -> list[str]:
    """What a real process logs until it is stopped; `then` is called once a line holds `until`."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        env=os.environ | {"LOG_FORMAT": "json", "LOG_LEVEL": "INFO", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    with process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if until in line:
                break
        then()
        process.send_signal(signal.SIGTERM)
        return lines + process.stderr.readlines()


def test_a_web_process_logs_json_and_no_ticket() -> None:
    port = free_port()

    def ask() -> None:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/nothing?ticket=s3cret")

    lines = lines_of(["svops.server", "--port", str(port)], until="running on", then=ask)

    read = [json.loads(line) for line in lines]
    assert {line["logger"] for line in read} == {"uvicorn.error", "uvicorn.access", "django.request"}
    [access] = [line["message"] for line in read if line["logger"] == "uvicorn.access"]
    assert access.endswith('"GET /api/v1/nothing?ticket=*** HTTP/1.1" 404')
    assert "s3cret" not in "".join(lines)


def test_a_worker_logs_json() -> None:
    worker = ["celery", "-A", "svops", "worker", "--pool", "threads", "--without-gossip", "--without-mingle"]

    lines = lines_of(worker, until="ready.")

    loggers = {json.loads(line)["logger"] for line in lines}
    assert "celery.apps.worker" in loggers
