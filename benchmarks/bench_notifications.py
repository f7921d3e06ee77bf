"""1,000 deliveries to a healthy receiver, alone and beside ten dead ones with as many pending deliveries each.

    .venv/bin/python benchmarks/bench_notifications.py [--deliveries 1000] [--dead 10] [--hang 15]

The receivers are real HTTP servers on this machine. A dead one accepts connections and never answers. The database is
in a temporary directory. For both cases the benchmark prints when the last healthy delivery was made.
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
    parser.add_argument(
        "--hang", type=float, default=15, help="NOTIFICATION_TIMEOUT: how long a dead one delays an attempt."
    )
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
    """Return the seconds from the start to the last delivery to the healthy receiver."""
    prepare_database()
    from django.utils import timezone

    from notifications import delivery
    from notifications.models import Delivery
    from notifications.tests.receiver import Receiver, running

    with ExitStack() as stack:
        receivers = [stack.enter_context(running(Receiver())) for _ in range(dead + 1)]
        for receiver in receivers[:-1]:
            receiver.otherwise = receiver.hang
        make_due([f"{receiver.url}/hook" for receiver in receivers], count)
        begun, started = timezone.now(), time.monotonic()
        delivery.deliver_due(budget=timedelta(seconds=600))
        whole = time.monotonic() - started
        healthy = Delivery.objects.filter(config__name=f"Receiver {dead}", status="delivered")
        assert healthy.count() == count
        assert len(receivers[-1].received) == count
        last = healthy.order_by("-finished_at").values_list("finished_at", flat=True)[0]
        asked = sum(len(receiver.received) for receiver in receivers[:-1])
        print(f"  dead receivers were asked {asked} times; the whole took {whole:.1f} s")
        assert last is not None
        return (last - begun).total_seconds()


def prepare_database() -> None:
    """Set Django up and empty its database."""
    import django

    django.setup()
    logging.disable(logging.WARNING)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("flush", interactive=False, verbosity=0)


def make_due(targets: list[str], count: int) -> None:
    """Create a config for each target, and `count` failures that are due to all of them."""
    from accounts.models import User
    from notifications import services
    from notifications.models import Delivery
    from notifications.tests.conftest import fail, start_run
    from workflows.models import Dag, Workflow

    ada = User.objects.create_user("ada", "ada@example.com", "a long password")
    workflow = Workflow.objects.create(name="Bench", dag=Dag.objects.create(dag_id="bench"), owner=ada)
    for number, target in enumerate(targets):
        services.create_config(
            actor=ada,
            name=f"Receiver {number}",
            channel="webhook",
            target=target,
            notification_types=["workflow_failed"],
            max_in_flight=16,
        )
    run = start_run(workflow)
    for _ in range(count):
        fail(run)
    assert Delivery.objects.count() == count * len(targets)


if __name__ == "__main__":
    main()
