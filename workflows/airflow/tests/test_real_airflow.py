"""The client against a real Airflow with the example DAGs: what the scripted one cannot prove."""

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from workflows.airflow import AirflowClient, errors, types
from workflows.airflow.tasklog import LogEnd, end_of

from .scripted import by_password

pytestmark = pytest.mark.airflow

DAG = "simple_workflow_example"
T = TypeVar("T")


class Server(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...


@pytest.fixture
def client(airflow_server: Server) -> Iterator[AirflowClient]:
    server = airflow_server
    with AirflowClient(by_password(server.url, server.username, server.password)) as client:
        yield client


@pytest.fixture
def run_id() -> str:
    return f"client_test__{uuid.uuid4().hex}"


def eventually(ask: Callable[[], T], holds: Callable[[T], bool], *, within: float = 60) -> T:
    """Return the first answer that holds. If none does in time, the last one fails the test."""
    deadline = time.monotonic() + within
    while not holds(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def insist(write: Callable[[], T], *, within: float = 60) -> T:
    """Repeat a write while Airflow says "not now".

    On SQLite it does so now and then: its audit log is written in the event loop, which then waits five
    seconds in vain for a lock whose holder waits for the event loop, and answers 500.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            return write()
        except errors.AirflowUnavailableError:
            assert time.monotonic() < deadline


def trigger(client: AirflowClient, run_id: str, **conf: Any) -> types.DagRun:
    return insist(lambda: client.runs.trigger(DAG, dag_run_id=run_id, conf=conf, note="hello"))


def ended(client: AirflowClient, run_id: str) -> types.DagRun:
    return eventually(lambda: client.runs.get(DAG, run_id), lambda run: run.state in {"success", "failed"})


def tasks_of(client: AirflowClient, run_id: str) -> dict[str, types.TaskInstance]:
    return {task.task_id: task for task in client.tasks.list(dag_run_ids={DAG: [run_id]})}


def ask_of_two_runs(client: AirflowClient, run_id: str) -> list[types.TaskInstance]:
    """As one batch, which one run alone is not."""
    return client.tasks.list(dag_run_ids={DAG: [run_id, "no_such_run"]})


def states_of(client: AirflowClient, run_id: str) -> dict[str, str | None]:
    return {task_id: task.state for task_id, task in tasks_of(client, run_id).items()}


def process_of(client: AirflowClient, run_id: str) -> tuple[int, int]:
    """Return the process that works on `processing`, and the number of its try."""
    line = eventually(lambda: _first_line(client, run_id), bool)
    return int(line.split()[3]), tasks_of(client, run_id)["processing"].try_number


def _first_line(client: AirflowClient, run_id: str) -> str:
    task = tasks_of(client, run_id)["processing"]
    if task.state != "running":
        return ""
    lines = client.tasks.log_lines(DAG, run_id, "processing", try_number=task.try_number)
    return next((line.text for line in lines if line.text.startswith("processing in process ")), "")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def log_end(client: AirflowClient, dag_id: str, dag_run_id: str, task_id: str, *, try_number: int) -> LogEnd:
    return end_of(client.tasks.log_lines(dag_id, dag_run_id, task_id, try_number=try_number), client.tasks.ending())


def test_every_component_that_runs_dags_is_healthy(client: AirflowClient) -> None:
    health = client.health()

    assert (health.metadatabase.status, health.scheduler.status) == ("healthy", "healthy")
    assert health.scheduler.latest_heartbeat is not None
    assert datetime.now(UTC) - health.scheduler.latest_heartbeat < timedelta(seconds=60)


def test_a_dag_is_listed_and_described_with_its_parameters_and_tasks(client: AirflowClient) -> None:
    [listed] = [dag for dag in client.dags.list(tags=["svops"]) if dag.dag_id == DAG and isinstance(dag, types.Dag)]
    details = client.dags.get(DAG)
    tasks = {task.task_id: task for task in client.dags.tasks(DAG)}

    assert not listed.is_stale
    assert (listed.tags, listed.owners) == (details.tags, details.owners)
    assert details.params["processing_time"].schema["type"] == "number"
    assert details.params["fail_task"].value is None
    assert tasks["start"].downstream_task_ids == ("processing",)
    assert tasks["processing"].downstream_task_ids == ("completion",)
    assert tasks["completion"].downstream_task_ids == ()


def test_unknown_dags_runs_and_logs_are_not_found(client: AirflowClient) -> None:
    unknown: list[Callable[[], Any]] = [
        lambda: client.dags.get("no_such_dag"),
        lambda: client.dags.set_paused("no_such_dag", True),
        lambda: client.runs.get(DAG, "no_such_run"),
        lambda: client.runs.get("no_such_dag", "no_such_run"),
        lambda: client.runs.trigger("no_such_dag", dag_run_id="client_test__x", conf={}),
        lambda: client.runs.set_state(DAG, "no_such_run", "failed"),
        lambda: client.runs.clear(DAG, "no_such_run", dry_run=True),
        lambda: list(client.tasks.log_lines(DAG, "no_such_run", "start", try_number=1)),
    ]

    for ask in unknown:
        with pytest.raises(errors.AirflowNotFoundError):
            insist(ask)


def test_a_wrong_password_is_an_auth_error(airflow_server: Server) -> None:
    with (
        AirflowClient(by_password(airflow_server.url, airflow_server.username, "wrong")) as client,
        pytest.raises(errors.AirflowAuthError),
    ):
        client.dags.list()


def test_a_parameter_against_its_schema_is_rejected_with_the_reason_and_starts_nothing(
    client: AirflowClient, run_id: str
) -> None:
    with pytest.raises(errors.AirflowRejectedError) as refused:
        trigger(client, run_id, processing_time=-5)

    assert refused.value.message == ("Invalid input for param processing_time: -5 is less than the minimum of 0")
    with pytest.raises(errors.AirflowNotFoundError):
        client.runs.get(DAG, run_id)


def test_a_run_is_followed_from_trigger_to_deletion(client: AirflowClient, run_id: str) -> None:
    begin = datetime.now(UTC) - timedelta(seconds=2)
    conf = {"processing_time": 1, "task_id": "caller's"}

    first = trigger(client, run_id, **conf)
    again = insist(lambda: client.runs.trigger(DAG, dag_run_id=run_id, conf=conf))
    run = ended(client, run_id)

    assert (first.dag_run_id, first.state, first.note, first.conf) == (run_id, "queued", "hello", conf)
    assert (again.dag_run_id, again.note) == (run_id, "hello")
    assert (run.state, run.conf, run.run_type) == ("success", conf, "manual")
    assert run.start_date is not None
    assert run.end_date is not None
    tasks = tasks_of(client, run_id)
    assert {name: (task.state, task.try_number) for name, task in tasks.items()} == dict.fromkeys(
        ("start", "processing", "completion"), ("success", 1)
    )

    assert {task.ref for task in insist(lambda: ask_of_two_runs(client, run_id))} == {
        task.ref for task in tasks.values()
    }

    ours = [task for task in client.tasks.changed_since(begin, dag_ids=[DAG]) if task.dag_run_id == run_id]
    assert [task.task_id for task in ours] == ["start", "processing", "completion"]
    assert run in client.runs.changed_since(begin, dag_ids=[DAG, "other"])
    assert client.runs.changed_since(begin, dag_ids=["other"]) == []
    assert run in client.runs.list(dag_ids=[DAG], states=["success"])
    assert run not in client.runs.list(dag_ids=[DAG], states=["failed", "running"])

    insist(lambda: client.runs.delete(DAG, run_id))
    with pytest.raises(errors.AirflowNotFoundError):
        client.runs.get(DAG, run_id)


def test_the_log_of_a_task_is_read_and_its_end_is_known(client: AirflowClient, run_id: str) -> None:
    trigger(client, run_id, processing_time=0)
    ended(client, run_id)
    task = client.tasks.get(DAG, run_id, "processing")

    end = eventually(
        lambda: log_end(client, DAG, run_id, "processing", try_number=task.try_number), lambda end: end.has_ended
    )
    lines = list(client.tasks.log_lines(DAG, run_id, "processing", try_number=task.try_number))

    assert (task.state, task.task_id) == ("success", "processing")
    assert end.last_at is not None
    assert any(line.text.startswith("processing: done after 0") for line in lines)


def test_a_failed_task_and_what_follows_it_are_run_again(client: AirflowClient, run_id: str) -> None:
    trigger(client, run_id, processing_time=0, fail_task="processing")
    assert ended(client, run_id).state == "failed"
    assert states_of(client, run_id) == {
        "start": "success",
        "processing": "failed",
        "completion": "upstream_failed",
    }
    lines = list(client.tasks.log_lines(DAG, run_id, "processing", try_number=1))
    assert any("RequestedFailureError: task 'processing' fails" in line.text for line in lines)

    would_be = client.tasks.clear(DAG, run_id, only_failed=True, include_downstream=False, dry_run=True)
    before = client.runs.get(DAG, run_id)
    cleared = insist(lambda: client.tasks.clear(DAG, run_id, only_failed=True, include_downstream=False, dry_run=False))
    after = client.runs.get(DAG, run_id)

    assert {ref.task_id for ref in would_be} == {"processing", "completion"}
    assert set(cleared) == set(would_be)
    assert (before.state, after.state in {"queued", "running"}) == ("failed", True)
    assert ended(client, run_id).state == "success"
    tasks = tasks_of(client, run_id)
    assert (tasks["start"].try_number, tasks["processing"].try_number) == (1, 2)


def test_a_retry_from_a_task_on_and_one_of_the_whole_run_differ(client: AirflowClient, run_id: str) -> None:
    trigger(client, run_id, processing_time=0)
    ended(client, run_id)

    from_task = client.tasks.clear(
        DAG, run_id, task_ids=["processing"], only_failed=False, include_downstream=True, dry_run=True
    )
    one_task = client.tasks.clear(
        DAG, run_id, task_ids=["processing"], only_failed=False, include_downstream=False, dry_run=True
    )
    whole = client.runs.clear(DAG, run_id, dry_run=True)

    assert {ref.task_id for ref in from_task} == {"processing", "completion"}
    assert [ref.task_id for ref in one_task] == ["processing"]
    assert {task.task_id: task.state for task in whole} == dict.fromkeys(
        ("start", "processing", "completion"), "success"
    )
    assert client.runs.get(DAG, run_id).state == "success"

    cleared = insist(lambda: client.runs.clear(DAG, run_id, dry_run=False))

    assert {task.task_id for task in cleared} == {"start", "processing", "completion"}
    assert ended(client, run_id).state == "success"
    assert {task.try_number for task in tasks_of(client, run_id).values()} == {2}


def test_a_stopped_run_is_failed_at_once_while_its_process_writes_on_until_it_is_killed(
    client: AirflowClient, run_id: str
) -> None:
    trigger(client, run_id, processing_time=60)
    pid, tries = process_of(client, run_id)
    with pytest.raises(errors.AirflowConflictError, match="running"):
        client.runs.delete(DAG, run_id)

    stopped = insist(lambda: client.runs.set_state(DAG, run_id, "failed"))

    assert stopped.state == "failed"
    assert states_of(client, run_id) == {"start": "success", "processing": "failed", "completion": "skipped"}
    assert is_alive(pid)
    eventually(lambda: log_end(client, DAG, run_id, "processing", try_number=tries), lambda end: end.has_ended)
    assert not is_alive(pid)
    lines = client.tasks.log_lines(DAG, run_id, "processing", try_number=tries)
    assert not any(line.text.startswith("processing: done") for line in lines)


def test_a_state_that_airflow_does_not_let_us_set_is_rejected(client: AirflowClient, run_id: str) -> None:
    trigger(client, run_id, processing_time=0)
    state = ended(client, run_id).state

    with pytest.raises(errors.AirflowRejectedError):
        insist(lambda: client.runs.set_state(DAG, run_id, "running"))

    assert client.runs.get(DAG, run_id).state == state


def test_a_run_of_a_paused_dag_waits_until_it_is_unpaused(client: AirflowClient, run_id: str) -> None:
    assert insist(lambda: client.dags.set_paused(DAG, True)).is_paused
    try:
        assert client.dags.get(DAG).is_paused
        run = trigger(client, run_id, processing_time=0)
        assert run.state == "queued"
    finally:
        assert not insist(lambda: client.dags.set_paused(DAG, False)).is_paused

    assert ended(client, run_id).state == "success"
