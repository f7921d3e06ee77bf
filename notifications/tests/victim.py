"""Workers that are killed with -9 at a given function.

This program reads one order a line from its input and runs each in a process that it forks. It answers with one line:
how the process ended, and its output.

    prepare           make a database, a workflow and a config
    die PORT WHERE    create two deliveries to that port and die at WHERE: before the first call of a function, or
                      after it with `:after`
    recover           let leases expire, deliver, print the ledger
    ask PORT WHERE    create a config for a stranger, send the link to the mail server at that port, and die at WHERE
    ask_again PORT    let leases expire, send the links, print how many are still due
    empty             delete all events
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

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402 - models can be imported only now
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.models import Role, User  # noqa: E402
from notifications import delivery, link_mails, services  # noqa: E402
from notifications.models import Delivery, MailConsent, NotificationConfig  # noqa: E402
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
    _die_at(where)
    for _ in range(2):
        fail(start_run(Workflow.objects.get()))
    delivery.deliver_due(budget=timedelta(seconds=20))
    return "survived"


def _die_at(where: str) -> None:
    name, _, when = where.partition(":")
    module, _, function = name.rpartition(".")
    holder = import_module(module)
    setattr(holder, function, _dying(getattr(holder, function), after=when == "after"))


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


def ask(port: str, where: str) -> str:
    _use_mail_server(port)
    _die_at(where)
    services.create_config(
        actor=User.objects.get(username="ada"),
        name="To a stranger",
        channel="email",
        target=["stranger@elsewhere.example"],
        notification_types=["workflow_failed"],
    )
    link_mails.send_due(now=timezone.now())
    return "survived"


def ask_again(port: str) -> str:
    _use_mail_server(port)
    due = MailConsent.objects.filter(link_due_at__isnull=False)
    due.update(link_due_at=timezone.now())
    link_mails.send_due(now=timezone.now())
    return str(due.count())


def _use_mail_server(port: str) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", int(port)


def empty() -> str:
    MailConsent.objects.all().delete()
    NotificationConfig.objects.filter(channel="email").delete()
    return str(Event.objects.all().delete()[0])


ORDERS: dict[str, Callable[..., str]] = {
    order.__name__: order for order in (prepare, die, recover, ask, ask_again, empty)
}


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
