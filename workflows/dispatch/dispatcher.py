"""When commands are sent to Airflow: at once after their commit, or in the background, until done or given up.

Triggers of one workflow keep their order: one waits for those whose requests were answered before it was asked for.
Workflows do not wait for each other. `docs/adr/0024-triggers-keep-their-order-per-workflow.md` says why.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from workflows import gateway
from workflows.dispatch import commands, sending, wake
from workflows.dispatch.drain import dispatch_due
from workflows.dispatch.sending import Sent
from workflows.models import Airflow, AirflowCommand, Dag, Run, Workflow

__all__ = ["Prospect", "dispatch_due", "dispatch_new", "dispatch_now", "prospect"]


class Prospect(NamedTuple):
    """Whether new triggers of a workflow can be sent at once: until `leased_until`, by who asked. None: they wait."""

    airflow: Airflow
    leased_until: datetime | None


# Written out: each trigger asks this, and Django takes longer to build the query than the database to answer it.
_PROSPECT = f"""SELECT a.*, EXISTS (
        SELECT 1 FROM {AirflowCommand._meta.db_table} c
        WHERE c.workflow_id = %s AND c.airflow_id = a.name AND c.kind = 'trigger'
        AND c.finished_at IS NULL AND NOT c.held AND c.due_at <= %s
    ) AS has_waiting
    FROM {Airflow._meta.db_table} a WHERE a.name = %s
"""  # noqa: S608 - the names of two tables of ours


def prospect(workflow: Workflow, *, now: datetime) -> Prospect:
    """Return whether new triggers of the workflow can be sent at once: Airflow answers, and none waits before them.

    Those that wait are the ones of `AirflowCommandQuerySet.triggers_due`.
    """
    name = workflow.dag.airflow_name
    due = connection.ops.adapt_datetimefield_value(now)
    found = next(iter(Airflow.objects.raw(_PROSPECT, [workflow.pk, due, name])), None)
    airflow = found or Airflow.named(name)
    must_wait = not airflow.reachable or getattr(found, "has_waiting", False)
    return Prospect(airflow, None if must_wait else now + sending.lease_time())


def dispatch_new(new: Sequence[AirflowCommand], prospect: Prospect) -> None:
    """Send new triggers after their commit: at once those that were leased for it, in their order. The rest waits."""
    mine = [command for command in new if command.leased_until]
    unsent = _send_in_order(mine)
    if unsent:
        commands.give_back(unsent, now=timezone.now())
    is_due = any(not command.leased_until and command.due_at <= command.created_at for command in new)
    if prospect.airflow.reachable and (unsent or is_due):
        wake.wake_worker(prospect.airflow.name)


def _send_in_order(mine: Sequence[AirflowCommand]) -> Sequence[AirflowCommand]:
    """Send these commands within the time of one lease. Return those for which time or Airflow was missing."""
    ends = time.monotonic() + sending.calling_time()
    for place, command in enumerate(mine):
        left = ends - time.monotonic()
        if left <= 0:
            return mine[place:]
        if sending.send(command, hurried=True, within=left) == Sent.LATER and not gateway.answers(command.airflow_name):
            return mine[place + 1 :]
    return ()


def dispatch_now(target: Run | Dag) -> None:
    """Send the due commands of a run or a DAG at once, unless its Airflow is known to be down.

    The background sends what is left: commands that fail here, and a trigger that has others before it.
    """
    airflow = target.airflow_name
    if not gateway.answers(airflow):
        return
    its = Q(run=target, dag=None) if isinstance(target, Run) else Q(run=None, dag=target)
    for command in AirflowCommand.objects.due(timezone.now()).filter(its).with_target():
        if sending.take_and_send(command, hurried=True, now=timezone.now()) == Sent.NOT_NOW:
            wake.wake_worker(airflow)
