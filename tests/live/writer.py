"""`python -m tests.live.writer`: appends to the log as it is told by JSON lines, and says `done` after each."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()

from django.db import transaction  # noqa: E402 - after the set-up

from tests.live.log import append  # noqa: E402
from workflows.models import Run  # noqa: E402


def obey(order: dict[str, Any]) -> None:
    run = Run.objects.get(pk=order["run"])
    if order.get("dies") == "before publication":
        with transaction.atomic():
            # Called after the commit, ahead of what append() asks for.
            transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
            append(run, order["count"])
    append(run, order["count"])


for line in sys.stdin:
    obey(json.loads(line))
    sys.stdout.write("done\n")
    sys.stdout.flush()
