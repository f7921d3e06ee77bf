"""`python -m tests.live.writer`: appends to the log as orders of one JSON line each say. Answers each with `done`."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()

from django.db import connection, transaction  # noqa: E402 - after the set-up

from tests.live.log import append  # noqa: E402
from workflows.models import Run  # noqa: E402


def obey(order: dict[str, Any]) -> None:
    run = Run.objects.get(pk=order["run"])
    if order.get("dies") == "before publication":
        with transaction.atomic():
            # Called after the commit, and before the publication that append() asks for.
            transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
            append(run, order["count"])
    if order.get("forks"):
        _in_fork(lambda: append(run, order["count"]))
    else:
        append(run, order["count"])


def _in_fork(work: Callable[[], None]) -> None:
    """Do this in a forked process, and wait for its end."""
    # A connection to the database is not shared by two processes.
    connection.close()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads, such as those of a connection pool.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


for line in sys.stdin:
    obey(json.loads(line))
    sys.stdout.write("done\n")
    sys.stdout.flush()
