"""Logs read line by line, and what they tell of the process that wrote them; shaped as 3.3.2 and 2.11.2 gave them."""

import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from workflows.airflow import AirflowClient, errors, types
from workflows.airflow.tasklog import Ending2, Ending3, LogEnd, end_of

from .scripted import Reply, Request, ScriptedAirflow

LOG = "/dags/etl/dagRuns/1/taskInstances/load/logs/2"
HEADER = [
    {"event": "::group::Log message source details"},
    {"event": "/logs/attempt=2.log"},
    {"event": "::endgroup::"},
]


def ndjson(*lines: dict[str, Any]) -> Callable[[Request], Reply]:
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
    airflow.answers["GET", LOG] = ndjson(
        said("loading", at="2026-11-23T12:00:00Z"),
        {"event": "failed", "level": "error", "error_detail": [{"exc_type": "OSError", "exc_value": "full"}]},
    )

    lines = lines_of(client, map_index=3)

    assert lines == [
        types.LogLine(timestamp=datetime(2026, 11, 23, 12, tzinfo=UTC), level="info", text="loading"),
        types.LogLine(timestamp=None, level="error", text="failed\nOSError: full"),
    ]
    assert airflow.last().headers["Accept"] == "application/x-ndjson"
    assert airflow.last().query["map_index"] == ["3"]


def test_a_log_of_2_11_is_read_as_text(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    text = (
        "vm\n INFO - ::group::Log message source details\n*** Found local files:\n***   * /logs/attempt=2.log\n"
        " INFO - ::endgroup::\n[2026-11-23T12:00:00.000+0000] {etl.py:7} INFO - loading\n*** mine\n"
    )
    airflow_2.answers["GET", LOG] = lambda _request: Reply(200, text.encode())

    lines = lines_of(client_of_2)

    assert lines == [
        types.LogLine(timestamp=datetime(2026, 11, 23, 12, tzinfo=UTC), level="info", text="loading"),
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


def test_a_line_without_end_is_cut(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = ndjson(said("x" * 1_000_000), said("after"))

    lines = lines_of(client)

    assert [len(line.text) for line in lines] == [256 * 1024, 5]


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


def test_the_end_of_a_log_and_its_last_moment_are_told(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", LOG] = ndjson(
        said("working", logger="airflow.task", at="2026-11-23T12:00:00Z"),
        said("Task killed!", at="2026-11-23T12:00:09Z"),
    )

    end = client.tasks.log_end("etl", "1", "load", try_number=2)

    assert end == LogEnd(is_over=True, last_at=datetime(2026, 11, 23, 12, 0, 9, tzinfo=UTC))


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
    ("words", "is_over"),
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
def test_the_process_is_gone_when_airflow_3_says_so(words: list[tuple[str, str]], is_over: bool) -> None:
    assert end_of(lines(*words), Ending3()).is_over is is_over


@pytest.mark.parametrize(
    ("words", "is_over"),
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
def test_the_process_is_gone_when_airflow_2_says_so(words: Iterable[tuple[str, str]], is_over: bool) -> None:
    assert end_of(lines(*words), Ending2()).is_over is is_over
