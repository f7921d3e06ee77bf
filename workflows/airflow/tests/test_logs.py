"""Logs read line by line, and what they say about their process. They have the form of 3.3.2 and 2.11.2."""

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from workflows.airflow import AirflowClient, Timeout, errors, types
from workflows.airflow.tasklog import Ending2, Ending3, LogEnd, end_of

from .scripted import Reply, Request, ScriptedAirflow, by_password

LOG = "/dags/etl/dagRuns/1/taskInstances/load/logs/2"
HEADER = [
    {"event": "::group::Log message source details"},
    {"event": "/logs/attempt=2.log"},
    {"event": "::endgroup::"},
]


def ndjson(*lines: dict[str, Any] | str) -> Callable[[Request], Reply]:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (*HEADER, *lines))
    return lambda _request: Reply(200, body)


def said(text: str, *, logger: str = "task", at: str | None = None) -> dict[str, Any]:
    return {"timestamp": at, "event": text, "level": "info", "logger": logger}


def line(text: str, source: str | None) -> types.LogLine:
    return types.LogLine(timestamp=None, level="info", text=text, source=source)


def lines_of(client: AirflowClient, **which: Any) -> list[types.LogLine]:
    return list(client.tasks.log_lines("etl", "1", "load", **{"try_number": 2} | which))


def test_a_log_is_read_as_lines_without_what_airflow_says_about_its_place(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    frame = {"filename": "/dags/etl.py", "lineno": 7, "name": "load"}
    failure = {"exc_type": "OSError", "exc_value": "full", "frames": [frame]}
    airflow.answers["GET", LOG] = ndjson(
        said("loading", at="2026-11-23T12:00:00Z"),
        "a bare line",
        {"event": "failed", "level": "error", "error_detail": [failure]},
    )

    lines = lines_of(client, map_index=3)

    assert lines == [
        types.LogLine(timestamp=datetime(2026, 11, 23, 12, tzinfo=UTC), level="info", text="loading"),
        types.LogLine(timestamp=None, level=None, text="a bare line"),
        types.LogLine(
            timestamp=None, level="error", text='failed\n  File "/dags/etl.py", line 7, in load\nOSError: full'
        ),
    ]
    assert airflow.last().headers["Accept"] == "application/x-ndjson"
    assert airflow.last().query["map_index"] == ["3"]


def test_the_raised_error_of_a_chained_exception_comes_last_as_in_python(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    chain = [
        {"exc_type": "RuntimeError", "exc_value": "the load failed", "is_cause": False},
        {"exc_type": "ValueError", "exc_value": "no rows", "is_cause": True},
        {"exc_type": "KeyError", "exc_value": "'rows'", "is_cause": False},
    ]
    airflow.answers["GET", LOG] = ndjson({"event": "Task failed", "level": "error", "error_detail": chain})

    (line,) = lines_of(client, map_index=3)

    assert line.text.splitlines() == [
        "Task failed",
        "KeyError: 'rows'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "ValueError: no rows",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "RuntimeError: the load failed",
    ]


def test_a_log_of_2_11_is_read_as_text(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    text = (
        "vm\n INFO - ::group::Log message source details\n*** Found local files:\n***   * /logs/attempt=2.log\n"
        " INFO - ::endgroup::\n[2026-11-23T13:00:00.000+0100] {etl.py:7} WARNING - it's [odd] - no?\n*** mine\n"
    )
    airflow_2.answers["GET", LOG] = lambda _request: Reply(200, text.encode())

    lines = lines_of(client_of_2)

    assert lines == [
        types.LogLine(timestamp=datetime(2026, 11, 23, 12, tzinfo=UTC), level="warning", text="it's [odd] - no?"),
        types.LogLine(timestamp=None, level=None, text="*** mine"),
    ]
    assert lines[0].source == "etl.py"
    assert airflow_2.last().headers["Accept"] == "text/plain"


def test_a_log_that_is_not_there_is_not_found(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = lambda _request: Reply(404, {"detail": "TaskInstance not found"})

    with pytest.raises(errors.AirflowNotFoundError, match=r"^TaskInstance not found$"):
        lines_of(client)


def test_a_log_asked_for_with_an_old_token_is_asked_for_again(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = ndjson(said("loading"))
    lines_of(client)
    airflow.expire_tokens()

    assert [line.text for line in lines_of(client)] == ["loading"]
    assert airflow.logins == 2


@pytest.mark.parametrize("letter", ["x", "ä", '"', "\\", "\n", "\U0001f642", '", "level": "fake", "timestamp": "fake'])
def test_a_long_line_is_cut_as_text_that_says_so_and_keeps_its_time_and_level(
    airflow: ScriptedAirflow, client: AirflowClient, letter: str
) -> None:
    text = letter * (2_000_000 // len(letter))
    entry = said(text, at="2026-11-23T12:00:00Z") | {"level": "error", "logger": "etl"}
    airflow.answers["GET", LOG] = ndjson(entry, said("after"))
    size = len(json.dumps(entry))

    first, second = lines_of(client)

    shown, _, notice = first.text.partition("… [cut: ")
    assert (first.is_cut, first.level, first.source) == (True, "error", "etl")
    assert first.timestamp == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert text.startswith(shown)
    assert 15_000 < len(shown) <= 256 * 1024
    assert notice == f"the line has {size:,} bytes]"
    assert (second.text, second.is_cut) == ("after", False)


def test_a_long_line_of_text_in_an_unknown_form_is_cut_too(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = lambda _request: Reply(200, b"x" * 1_000_000)

    (line,) = lines_of(client)

    assert line.text == "x" * 256 * 1024 + "… [cut: the line has 1,000,000 bytes]"
    assert (line.timestamp, line.is_cut) == (None, True)


def test_a_long_line_of_2_11_keeps_its_time_and_level(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    text = "vm\n[2026-11-23T12:00:00.000+0000] {etl.py:7} ERROR - " + "x" * 1_000_000
    airflow_2.answers["GET", LOG] = lambda _request: Reply(200, text.encode())

    (line,) = lines_of(client_of_2)

    assert (line.timestamp, line.level) == (datetime(2026, 11, 23, 12, tzinfo=UTC), "error")
    assert line.text.endswith(f"xxx… [cut: the line has {len(text) - 3:,} bytes]")


def test_the_first_byte_of_a_log_may_take_longer_than_other_answers(airflow: ScriptedAirflow) -> None:
    timeout = Timeout(connect=1, read=0.2, total=1, log_read=20, log_total=20)
    asked = ndjson(said("loading"))
    released = threading.Event()

    def prepare(request: Request) -> Reply:
        assert released.wait(20)
        return asked(request)

    airflow.answers["GET", LOG] = prepare
    with AirflowClient(by_password(airflow.url), timeout=timeout) as client:
        threading.Timer(0.5, released.set).start()

        assert [line.text for line in lines_of(client)] == ["loading"]


def test_a_large_log_passes_through_little_memory(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    reply = ndjson(*(said(f"{number} {'x' * 200}") for number in range(50_000)))(airflow_request())
    airflow.answers["GET", LOG] = lambda _request: reply
    next(client.tasks.log_lines("etl", "1", "load", try_number=2)).text  # noqa: B018 - the first call logs in

    tracemalloc.start()
    count = sum(1 for _ in client.tasks.log_lines("etl", "1", "load", try_number=2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 50_000
    assert len(reply.body) > 10_000_000
    assert peak < 2_000_000


def airflow_request() -> Request:
    return Request(method="GET", path=LOG, raw_path=LOG, query={}, headers={}, body=None)


def test_the_connection_of_a_reader_that_goes_away_is_free_again(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    airflow.answers["GET", LOG] = ndjson(*(said(str(number)) for number in range(100_000)))

    for _ in range(20):
        lines = client.tasks.log_lines("etl", "1", "load", try_number=2)
        assert next(lines).text == "0"
        lines.close()


def test_the_end_of_a_log_and_its_last_moment_are_returned(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = ndjson(
        said("working", logger="airflow.task", at="2026-11-23T12:00:00Z"),
        said("Task killed!", at="2026-11-23T12:00:09Z"),
    )

    end = end_of(client.tasks.log_lines("etl", "1", "load", try_number=2), client.tasks.ending())

    assert end == LogEnd(has_ended=True, last_at=datetime(2026, 11, 23, 12, 0, 9, tzinfo=UTC))


def lines(*said: tuple[str, str]) -> Iterator[types.LogLine]:
    return (line(text, source) for text, source in said)


BEGUN_3 = [("::group::Pre Execute", "task"), ("::endgroup::", "task"), ("working", "airflow.task")]
BEGUN_2 = [
    ("::group::Pre task execution logs", "local_task_job_runner.py"),
    ("Started process 30799 to run task", "standard_task_runner.py"),
    ("::endgroup::", "taskinstance.py"),
]
KILLED_2 = (
    "Process psutil.Process(pid={0}, name='airflow (task)', status='terminated') ({0}) terminated with exit code -9"
)


@pytest.mark.parametrize(
    ("words", "has_ended"),
    [
        ([], False),
        (BEGUN_3, False),
        ([*BEGUN_3, ("Server indicated the task shouldn't be running anymore. Terminating process", "task")], False),
        ([*BEGUN_3, ("Task killed!", "task")], True),
        ([*BEGUN_3, ("Task killed!", "airflow.task")], False),
        ([*BEGUN_3, ("Task killed!", "task.stdout")], False),
        ([*BEGUN_3, ("Process exited abnormally", "task")], True),
        ([*BEGUN_3, ("Process terminated by signal. Likely out of memory error (OOM).", "task")], True),
        ([*BEGUN_3, ("::group::Post Execute", "task")], False),
        ([*BEGUN_3, ("::group::Post Execute", "task"), ("::endgroup::", "task")], True),
        ([*BEGUN_3, ("::group::Post Execute", "task"), ("::endgroup::", "task"), *BEGUN_3], False),
    ],
)
def test_the_process_is_gone_when_airflow_3_says_so(words: list[tuple[str, str]], has_ended: bool) -> None:
    assert end_of(lines(*words), Ending3()).has_ended is has_ended


@pytest.mark.parametrize(
    ("words", "has_ended"),
    [
        (BEGUN_2, False),
        ([*BEGUN_2, ("Task exited with return code 1", "local_task_job_runner.py")], True),
        ([*BEGUN_2, ("Task exited with return code 1", "etl.py")], False),
        ([*BEGUN_2, (KILLED_2.format(30799), "process_utils.py")], True),
        # A child of the process, which itself ignores the signal.
        ([*BEGUN_2, (KILLED_2.format(30801), "process_utils.py")], False),
        ([*BEGUN_2, ("Task exited with return code 100 (task deferral)", "local_task_job_runner.py"), *BEGUN_2], False),
        ([("Task is not able to be run", "local_task_job_runner.py")], True),
    ],
)
def test_the_process_is_gone_when_airflow_2_says_so(words: Iterable[tuple[str, str]], has_ended: bool) -> None:
    assert end_of(lines(*words), Ending2()).has_ended is has_ended
