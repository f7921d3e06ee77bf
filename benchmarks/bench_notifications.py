"""1,000 deliveries to a healthy receiver, alone and beside ten dead ones that have just as much owed to them.

    .venv/bin/python benchmarks/bench_notifications.py [--deliveries 1000] [--dead 10] [--hang 15]

The receivers are real HTTP servers on this machine; a dead one accepts and never answers. It uses a database of its
own below a temporary directory and prints, for each of the two cases, when the last healthy delivery was made.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=1000)
    parser.add_argument("--dead", type=int, default=10)
    parser.add_argument("--hang", type=float, default=15, help="NOTIFICATION_TIMEOUT: how long a dead one holds a try.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            SVOPS_HOME=home,
            DATABASE_URL=f"sqlite:///{home}/bench.sqlite3",
            SECRET_KEY="only for this benchmark, and long enough",
            NOTIFICATION_ALLOWED_NETWORKS="127.0.0.0/8",
            NOTIFICATION_TIMEOUT=str(options.hang),
            DJANGO_SETTINGS_MODULE="svops.settings",
        )
        alone = measure(options.deliveries, dead=0)
        beside = measure(options.deliveries, dead=options.dead)
    for case, seconds in (("alone", alone), (f"beside {options.dead} dead receivers", beside)):
        rate = options.deliveries / seconds
        print(f"{options.deliveries} deliveries, {case}: {seconds:.2f} s, {rate:.0f} a second")


def measure(count: int, *, dead: int) -> float:
    """Seconds from the start of the work to the last delivery of the healthy one."""
    import django

    django.setup()
    logging.disable(logging.WARNING)
    from django.core.management import call_command
    from django.utils import timezone

    from accounts.models import User
    from notifications import delivery, services
    from notifications.models import Delivery
    from notifications.tests.conftest import fail, start_run
    from notifications.tests.receiver import Receiver, running
    from workflows.models import Dag, Workflow

    call_command("migrate", verbosity=0)
    call_command("flush", interactive=False, verbosity=0)
    ada = User.objects.create_user("ada", "ada@example.com", "a long password")
    workflow = Workflow.objects.create(name="Bench", dag=Dag.objects.create(dag_id="bench"), owner=ada)
    run = start_run(workflow)
    with ExitStack() as stack:
        receivers = [stack.enter_context(running(Receiver())) for _ in range(dead + 1)]
        configs = [
            services.create_config(
                actor=ada,
                name=f"Receiver {number}",
                channel="webhook",
                target=f"{receiver.url}/hook",
                notification_types=["workflow_failed"],
                max_in_flight=16,
            )
            for number, receiver in enumerate(receivers)
        ]
        for receiver in receivers[:-1]:
            receiver.otherwise = receiver.hang
        for _ in range(count):
            fail(run)
        assert Delivery.objects.count() == count * (dead + 1)
        begun, started = timezone.now(), time.monotonic()
        delivery.deliver_due(budget=timedelta(seconds=600))
        whole = time.monotonic() - started
        healthy = Delivery.objects.filter(config=configs[-1], status="delivered")
        assert healthy.count() == count
        assert len(receivers[-1].received) == count
        last = healthy.order_by("-finished_at").values_list("finished_at", flat=True)[0]
        asked = sum(len(receiver.received) for receiver in receivers[:-1])
        print(f"  dead receivers were asked {asked} times; the whole took {whole:.1f} s")
        assert last is not None
        return (last - begun).total_seconds()


if __name__ == "__main__":
    main()
