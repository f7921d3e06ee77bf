"""### Simple workflow example

Three tasks in a row: `start`, `processing`, `completion`. The workflow only takes its time, to show
how a run looks from the outside: states, events, logs, stopping and failing.

| parameter | what it does |
| --- | --- |
| `processing_time` | seconds that `processing` lasts; with 0 it ends at once |
| `fail_task` | this task fails on purpose; a retry of the run succeeds |
| `ignore_signals` | `processing` ignores SIGTERM and SIGINT; only SIGKILL stops it |
| `message` | a text that `completion` repeats in its log and result |

If the run's `conf` has the caller's own `task_id` and `dataset_id`, each task logs them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pendulum

try:  # Airflow 3
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger("airflow.task")

DAG_ID = "simple_workflow_example"
TASK_IDS = ("start", "processing", "completion")

PARAMS = {
    "processing_time": Param(
        30,
        type="number",
        minimum=0,
        maximum=3600,
        title="Processing time",
        description="Seconds that the task `processing` lasts.",
    ),
    "fail_task": Param(
        None,
        type=["null", "string"],
        enum=[None, *TASK_IDS],
        title="Task that fails",
        description=(
            "This task fails on purpose in the first attempt of the run; a retry of the run succeeds. With null, all "
            "tasks succeed."
        ),
    ),
    "ignore_signals": Param(
        False,
        type="boolean",
        title="Ignore stop signals",
        description="Makes `processing` ignore SIGTERM and SIGINT, like a task that hangs.",
    ),
    "message": Param(
        "Hello from SVOps",
        type="string",
        maxLength=200,
        title="Message",
        description="A text that `completion` repeats in its log and its result.",
    ),
}


class RequestedFailureError(RuntimeError):
    """The parameters of the run ask this task to fail."""


def begin(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Log the caller's references and return the parameters. Raise if this task has to fail."""
    conf = context["dag_run"].conf or {}
    for name in ("task_id", "dataset_id"):
        if name in conf:
            log.info("caller's %s: %r", name, conf[name])
    params: Mapping[str, Any] = context["params"]
    task_id = context["ti"].task_id
    if params["fail_task"] == task_id and is_first_attempt(context["dag_run"], context["ti"]):
        raise RequestedFailureError(f"task {task_id!r} fails because the parameter fail_task names it")
    return params


def is_first_attempt(dag_run: Any, ti: Any) -> bool:
    """Return whether no task of the run has been cleared yet; a retry clears tasks."""
    cleared = getattr(dag_run, "clear_number", None)
    return ti.try_number <= 1 if cleared is None else cleared == 0


def spend(seconds: float) -> None:
    """Wait for `seconds`, with a line of progress for each of them, also if the machine is too busy to be in time."""
    begun = time.monotonic()
    for second in range(math.ceil(seconds)):
        log.info("processing: %d of %g s (%.0f %%)", second, seconds, 100 * second / seconds)
        time.sleep(max(0.0, begun + min(second + 1, seconds) - time.monotonic()))
    log.info("processing: done after %.1f s", time.monotonic() - begun)


@contextlib.contextmanager
def ignoring(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Ignore these signals inside the block."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dag(
    dag_id=DAG_ID,
    description="Three tasks in a row that take as long as the parameters say",
    doc_md=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 0},
    params=PARAMS,
    tags=["svops", "example"],
)
def simple_workflow_example() -> None:
    @task
    def start(**context: Any) -> None:
        params = begin(context)
        log.info("run %s starts: processing takes %g s", context["run_id"], params["processing_time"])

    @task
    def processing(**context: Any) -> float:
        params = begin(context)
        log.info("processing in process %d", os.getpid())
        ignored = (signal.SIGTERM, signal.SIGINT) if params["ignore_signals"] else ()
        if ignored:
            log.warning("ignoring %s: only SIGKILL stops this task", ", ".join(s.name for s in ignored))
        begun = time.monotonic()
        with ignoring(ignored):
            spend(params["processing_time"])
        return round(time.monotonic() - begun, 3)

    @task(multiple_outputs=False)
    def completion(seconds: float, **context: Any) -> dict[str, Any]:
        params = begin(context)
        log.info("run %s is complete after %.1f s: %s", context["run_id"], seconds, params["message"])
        return {"message": params["message"], "seconds": seconds}

    started, processed = start(), processing()
    started >> processed
    completion(processed)


simple_workflow_example()
