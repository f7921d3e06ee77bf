"""Tells SVOps at once when runs and tasks change state. Works unchanged on Airflow 2.11 and 3.x.

Drop this file into Airflow's plugins folder and set, for every Airflow process:

    SVOPS_INGEST_URL       http://svops.example:8000/api/v1/ingest
    SVOPS_INGEST_SECRET    the same secret that SVOps has

Inside Airflow we are a guest: hooks run in the scheduler's loop and in the process of each task, so they only put
a small record into a bounded queue, which a daemon thread empties. They never wait and never raise. What is lost
on the way SVOps finds by itself a few seconds later. Without the two variables nothing happens at all.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import hmac
import json
import logging
import os
import queue
import threading
import time
import urllib.request
from datetime import datetime, timezone

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger("svops.listener")

QUEUE_LENGTH = 1000  # records; a record is about 300 bytes
BATCH_LENGTH = 100
POST_TIMEOUT = 1.0  # seconds
FLUSH_TIMEOUT = 1.0  # seconds that a task's process waits at its end


class EventPump:
    """A bounded queue and the thread that posts what is in it; a full queue drops and counts."""

    def __init__(self, url, secret):
        self.dropped = 0
        self._url = url
        self._secret = secret.encode()
        self._queue = queue.Queue(QUEUE_LENGTH)
        # No proxy: SVOps is named by its own address, and the environment of a task may hold one for others.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        threading.Thread(target=self._run, name="svops-listener", daemon=True).start()

    def offer(self, record):
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def flush(self, timeout):
        """Wait, for so many seconds at most, until the queue is empty and the last post is over."""
        deadline = time.monotonic() + timeout
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and time.monotonic() < deadline:
                self._queue.all_tasks_done.wait(deadline - time.monotonic())

    def _run(self):
        while True:
            batch = [self._queue.get()]
            while len(batch) < BATCH_LENGTH and not self._queue.empty():
                batch.append(self._queue.get())
            try:
                self._post(batch)
            except Exception as exc:
                log.debug("SVOps was not told: %s", exc)
            finally:
                for _ in batch:
                    self._queue.task_done()

    def _post(self, batch):
        body = json.dumps({"records": batch, "dropped": self.dropped}).encode()
        sent_at = str(int(time.time()))
        signature = hmac.new(self._secret, sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-SVOps-Timestamp": sent_at,
            "X-SVOps-Signature": signature,
        }
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        with self._opener.open(request, timeout=POST_TIMEOUT) as response:
            response.read(1024)


_pumps = {}


def _pump():
    """The pump of this process; a fork has no thread of its parent's, so it gets one of its own."""
    pid = os.getpid()
    if pid not in _pumps:
        url, secret = os.environ.get("SVOPS_INGEST_URL"), os.environ.get("SVOPS_INGEST_SECRET")
        _pumps.clear()
        _pumps[pid] = EventPump(url, secret) if url and secret else None
    return _pumps[pid]


def _time(value):
    return value.astimezone(timezone.utc).isoformat() if value else None


def _never_raises(hook):
    """Airflow 2.11 lets an error of a listener reach the scheduler's loop or the task."""

    @functools.wraps(hook)
    def guarded(*args, **kwargs):
        try:
            return hook(*args, **kwargs)
        except Exception as exc:
            log.debug("SVOps was not told: %s", exc)

    return guarded


def _tell_run(dag_run, state):
    pump = _pump()
    if pump:
        pump.offer(
            {
                "kind": "run",
                "at": _time(datetime.now(timezone.utc)),
                "dag_id": dag_run.dag_id,
                "dag_run_id": dag_run.run_id,
                "state": state,
                "run_type": str(getattr(dag_run.run_type, "value", dag_run.run_type)),
                "start_date": _time(dag_run.start_date),
                "end_date": _time(dag_run.end_date),
            }
        )


def _tell_task(task_instance, state):
    pump = _pump()
    if pump:
        pump.offer(
            {
                "kind": "task",
                "at": _time(datetime.now(timezone.utc)),
                "dag_id": task_instance.dag_id,
                "dag_run_id": task_instance.run_id,
                "task_id": task_instance.task_id,
                "map_index": getattr(task_instance, "map_index", -1),
                "try_number": task_instance.try_number,
                "max_tries": getattr(task_instance, "max_tries", 0),
                "state": state,
                "start_date": _time(task_instance.start_date),
                "end_date": _time(task_instance.end_date),
            }
        )


def _tell_failure(task_instance):
    # The hook is called for a try that will be followed by another one too.
    retries = str(getattr(task_instance.state, "value", task_instance.state)) == "up_for_retry"
    _tell_task(task_instance, "up_for_retry" if retries else "failed")


class Listener:
    """Airflow's hooks, with the arguments that 2.11 and 3.x have in common."""

    @hookimpl
    def on_dag_run_running(self, dag_run, msg):
        _never_raises(_tell_run)(dag_run, "running")

    @hookimpl
    def on_dag_run_success(self, dag_run, msg):
        _never_raises(_tell_run)(dag_run, "success")

    @hookimpl
    def on_dag_run_failed(self, dag_run, msg):
        _never_raises(_tell_run)(dag_run, "failed")

    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        _never_raises(_tell_task)(task_instance, "running")

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        _never_raises(_tell_task)(task_instance, "success")

    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        _never_raises(_tell_failure)(task_instance)

    @hookimpl
    def before_stopping(self, component):
        _flush()


@_never_raises
def _flush():
    pump = _pumps.get(os.getpid())
    if pump:
        pump.flush(FLUSH_TIMEOUT)


atexit.register(_flush)


class SVOpsListenerPlugin(AirflowPlugin):
    name = "svops_listener"
    listeners = [Listener()]
