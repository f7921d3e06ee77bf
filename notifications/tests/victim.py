"""Workers that are killed with -9 at a line of one's choice.

It reads orders from its input, one a line, carries each out in a process of its own that it forks, and answers with a
line: how that process ended, and what it printed.

    prepare           make a database, a workflow and a config
    die PORT WHERE    owe two deliveries to that port and die at WHERE: before the first call of a function, or after
                      it with `:after`
    recover           let leases run out, deliver, print the ledger
    empty             forget all events
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()

from django.core.management import call_command  # noqa: E402 - models can be imported only now
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Role, User  # noqa: E402
from notifications import delivery, services  # noqa: E402
from notifications.models import Delivery, NotificationConfig  # noqa: E402
from notifications.tests.conftest import fail, start_run  # noqa: E402
from workflows.models import Dag, Event, Workflow  # noqa: E402


def prepare() -> str:
    call_command("migrate", verbosity=0)
    ada = User.objects.create_user("ada", "ada@example.com", "a long password", role=Role.USER)
    workflow = Workflow.objects.create(name="Figures", dag=Dag.objects.create(dag_id="etl"), owner=ada)
    services.create_config(
        actor=ada,
        name="On call",
        channel="webhook",
        target="http://127.0.0.1:9/",
        notification_types=["workflow_failed"],
    )
    return str(workflow.pk)


def die(port: str, where: str) -> str:
    config = NotificationConfig.objects.get(name="On call")
    config.target = f"http://127.0.0.1:{port}/hook"
    config.save(update_fields=["sealed_target"])
    name, _, when = where.partition(":")
    module, _, function = name.rpartition(".")
    holder = import_module(module)
    setattr(holder, function, _dying(getattr(holder, function), after=when == "after"))
    for _ in range(2):
        fail(start_run(Workflow.objects.get()))
    delivery.deliver_due(budget=timedelta(seconds=20))
    return "survived"


def _dying(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def dies(*args: Any, **kwargs: Any) -> Any:
        if after:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return dies


def recover() -> str:
    now = timezone.now()
    Delivery.objects.filter(leased_until__isnull=False).update(leased_until=now - timedelta(seconds=1))
    NotificationConfig.objects.update(paused_until=None)
    delivery.deliver_due(budget=timedelta(seconds=20))
    rows = [
        {
            "message_id": row.message_id,
            "status": row.status,
            "leased": row.leased_until is not None,
            "outcomes": list(row.attempts.order_by("number").values_list("outcome", flat=True)),
        }
        for row in Delivery.objects.order_by("id")
    ]
    return json.dumps({"events": Event.objects.count(), "deliveries": rows})


def empty() -> str:
    return str(Event.objects.all().delete()[0])


ORDERS: dict[str, Callable[..., str]] = {"prepare": prepare, "die": die, "recover": recover, "empty": empty}


def in_a_process(order: str, *arguments: str) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, ORDERS[order](*arguments).encode())
        finally:
            connections.close_all()
            os._exit(0)
    os.close(writer)
    with open(reader) as printed:
        answer = printed.read()
    return f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])} {answer}"


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(in_a_process(*line.split()) + "\n")
        sys.stdout.flush()
