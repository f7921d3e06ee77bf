"""Runs under Airflow's interpreter, calls the plugin's hooks as Airflow does, and answers in JSON.

`python guest.py SCENARIO` plays one scenario, with the plugin's variables in the environment. Without an argument,
each line of the input names a scenario and an environment; it is played in a fork, as Airflow runs its tasks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

# Airflow logs to standard output. Here that goes to standard error, and only answers go to our output.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import svops_listener as plugin  # noqa: E402 - as Airflow finds it

NOW = datetime(2026, 11, 23, 7, 0, tzinfo=timezone.utc)  # noqa: UP017 - as the plugin, for the Python of any Airflow
HOOKS = (
    "on_dag_run_running",
    "on_dag_run_success",
    "on_dag_run_failed",
    "on_task_instance_running",
    "on_task_instance_success",
    "on_task_instance_failed",
)


class Hostile:
    """Raises on every access."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


def dag_run(**fields):
    known = {"dag_id": "etl", "run_id": "manual__1", "run_type": "manual", "start_date": NOW, "end_date": None}
    return SimpleNamespace(**known | fields)


def task(**fields):
    known = {"dag_id": "etl", "run_id": "manual__1", "task_id": "load", "map_index": -1, "try_number": 1}
    known |= {"max_tries": 2, "state": "running", "start_date": NOW, "end_date": None}
    return SimpleNamespace(**known | fields)


def call(hook, thing):
    """Call a hook as pluggy does. Return the milliseconds that it took."""
    method = getattr(plugin.SVOpsListenerPlugin.listeners[0], hook)
    began = time.perf_counter()
    if hook.startswith("on_dag_run"):
        method(dag_run=thing, msg="")
    elif hook == "on_task_instance_failed":
        method(previous_state=None, task_instance=thing, error=None)
    else:
        method(previous_state=None, task_instance=thing)
    return (time.perf_counter() - began) * 1000


def story():
    call("on_dag_run_running", dag_run())
    call("on_task_instance_running", task())
    call("on_task_instance_failed", task(state="up_for_retry"))
    call("on_task_instance_running", task(try_number=2))
    call("on_task_instance_failed", task(try_number=2, state="failed", end_date=NOW))
    call("on_task_instance_success", task(task_id="mapped", map_index=3, end_date=NOW))
    call("on_dag_run_failed", dag_run(end_date=NOW))
    call("on_dag_run_success", dag_run(run_id="manual__2", end_date=NOW))
    plugin._flush()
    return {}


def one():
    call("on_dag_run_success", dag_run(end_date=NOW))
    plugin._flush()
    return {}


def hostile():
    things = [None, object(), 7, "text", Hostile(), SimpleNamespace(), dag_run(start_date="x"), task(end_date=5)]
    things += [dag_run(dag_id=Hostile()), task(try_number=object())]
    return {"slowest_ms": max(call(hook, thing) for hook in HOOKS for thing in things)}


def flood():
    """Offer far more records than the queue holds, while the receiver does not keep up."""
    took = sorted(call("on_task_instance_running", task()) for _ in range(5 * plugin.QUEUE_LENGTH))
    pump = plugin._pumps[os.getpid()]
    nearly_all = took[len(took) * 99 // 100]
    return {"nearly_all_ms": nearly_all, "queued": pump._queue.qsize(), "dropped": pump.dropped}


def flood_and_wait():
    flooded = flood()
    while plugin._pumps[os.getpid()]._queue.unfinished_tasks:
        plugin._flush()
    return flooded


def flush():
    call("on_dag_run_running", dag_run())
    began = time.monotonic()
    plugin.SVOpsListenerPlugin.listeners[0].before_stopping(component=None)
    return {"flush_s": time.monotonic() - began}


def fork():
    """Use a pump in the parent, then another in a child that is forked afterwards."""
    call("on_dag_run_running", dag_run(run_id="parent"))
    plugin._flush()
    child = os.fork()
    if not child:
        call("on_dag_run_running", dag_run(run_id="child"))
        plugin._flush()
        os._exit(0)
    os.waitpid(child, 0)
    return {}


def idle():
    for hook in HOOKS:
        call(hook, dag_run() if hook.startswith("on_dag_run") else task())
    plugin._flush()
    import threading

    return {"pump": plugin._pumps[os.getpid()] is not None, "threads": threading.active_count()}


def at_exit():
    """Offer a record just before the process ends."""
    call("on_task_instance_success", task(end_date=NOW))
    return {}


def play(scenario, env):
    os.environ.update(env)
    print(json.dumps(globals()[scenario]()), file=ANSWERS, flush=True)


def play_in_a_fork(scenario, env):
    child = os.fork()
    if not child:
        play(scenario, env)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("null", file=ANSWERS, flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        play(sys.argv[1], {})
    for line in sys.stdin:
        play_in_a_fork(*json.loads(line))
