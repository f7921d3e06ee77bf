"""Notifies SVOps at once when runs and tasks change state. Works unchanged on Airflow 2.11 and 3.x.

Drop this file into Airflow's plugins folder and set, for every Airflow process:

    SVOPS_INGEST_URL       http://svops.example:8000/api/v1/ingest
    SVOPS_INGEST_SECRET    the same secret that SVOps has

The plugin is a guest inside Airflow: hooks run in the scheduler's loop and in the process of each task. So they only
put a small record into a bounded queue, which a daemon thread empties. They never wait and never raise. SVOps finds
lost changes by itself a few seconds later. Without both variables the plugin does nothing.
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
import urllib.error
import urllib.request
from datetime import datetime, timezone

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger("svops.listener")

VERSION = "3"  # SVOps compares it with the plugin that belongs to it

QUEUE_LENGTH = 1000  # records; a record is about 300 bytes
BATCH_LENGTH = 100
POST_TIMEOUT = 1.0  # seconds
FLUSH_TIMEOUT = 1.0  # seconds that a task's process waits at its end
BUSY = (429, 503)  # SVOps has no room now: the same records may be sent again
TRIES = 3
LONGEST_WAIT = 5.0  # seconds between two tries, whatever Retry-After says
SECONDS_BETWEEN_WARNINGS = 60.0


class EventPump:
    """A bounded queue and the thread that posts its records. A full queue drops new records and counts them.

    While SVOps answers that it is busy, the records wait in the queue.
    """

    def __init__(self, url, secret):
        self.dropped = 0
        self._warned_at = None
        self._url = url
        self._secret = secret.encode()
        self._queue = queue.Queue(QUEUE_LENGTH)
        # No proxy: the URL is SVOps' own address, and a proxy in the environment of a task is for other hosts.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        threading.Thread(target=self._run, name="svops-listener", daemon=True).start()

    def offer(self, record):
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
            self._warn("%s changes were dropped, because SVOps takes them too slowly", self.dropped)

    def flush(self, timeout):
        """Wait until the queue is empty and the last post has ended, for at most `timeout` seconds."""
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
                self._post_patiently(batch)
            except Exception as exc:
                self._warn("SVOps was not notified: %s", exc)
            finally:
                for _ in batch:
                    self._queue.task_done()

    def _warn(self, text, *values):
        """Log a warning, but not more than one a minute."""
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            log.warning(text, *values)

    def _post_patiently(self, batch):
        """Post the records. If SVOps is busy, post them again after the time that it names."""
        for tries_left in reversed(range(TRIES)):
            try:
                self._post(batch)
                return
            except urllib.error.HTTPError as refusal:
                if refusal.code not in BUSY or not tries_left:
                    raise
                time.sleep(_seconds_to_wait(refusal.headers.get("Retry-After")))

    def _post(self, batch):
        body = json.dumps({"records": batch, "dropped": self.dropped, "version": VERSION}).encode()
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


def _seconds_to_wait(retry_after):
    try:
        return min(max(float(retry_after), 0.0), LONGEST_WAIT)
    except (TypeError, ValueError):
        return 1.0


_pumps = {}


def _pump():
    """Return the pump of this process. A fork gets its own, because the parent's thread does not exist there."""
    pid = os.getpid()
    if pid not in _pumps:
        url, secret = os.environ.get("SVOPS_INGEST_URL"), os.environ.get("SVOPS_INGEST_SECRET")
        _pumps.clear()
        _pumps[pid] = EventPump(url, secret) if url and secret else None
    return _pumps[pid]


def _time(value):
    return value.astimezone(timezone.utc).isoformat() if value else None


def _never_raises(hook):
    """Swallow every error of a hook: Airflow 2.11 would pass it on to the scheduler's loop or the task."""

    @functools.wraps(hook)
    def guarded(*args, **kwargs):
        try:
            return hook(*args, **kwargs)
        except Exception as exc:
            log.debug("SVOps was not notified: %s", exc)

    return guarded


def _report_run(dag_run, state):
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


def _report_task(task_instance, state):
    pump = _pump()
    if pump:
        pump.offer(
            {
                "kind": "task",
                # None in 2.11.
                "id": str(task_instance.id) if getattr(task_instance, "id", None) else None,
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
                "asks": _asks(task_instance),
            }
        )


def _asks(task_instance):
    """Return whether the task can ask a person: then SVOps reads the question before it records the end."""
    operator = getattr(task_instance, "task", None)
    return any(kind.__name__ == "HITLOperator" for kind in type(operator).__mro__)


def _report_failure(task_instance):
    # Airflow also calls this hook for a try that it will retry.
    retries = str(getattr(task_instance.state, "value", task_instance.state)) == "up_for_retry"
    _report_task(task_instance, "up_for_retry" if retries else "failed")


class Listener:
    """Airflow's hooks, with only the arguments that 2.11 and 3.x share."""

    @hookimpl
    def on_dag_run_running(self, dag_run, msg):
        _never_raises(_report_run)(dag_run, "running")

    @hookimpl
    def on_dag_run_success(self, dag_run, msg):
        _never_raises(_report_run)(dag_run, "success")

    @hookimpl
    def on_dag_run_failed(self, dag_run, msg):
        _never_raises(_report_run)(dag_run, "failed")

    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        _never_raises(_report_task)(task_instance, "running")

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        _never_raises(_report_task)(task_instance, "success")

    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        _never_raises(_report_failure)(task_instance)

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
