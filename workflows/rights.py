"""What Airflow refuses SVOps' user for one DAG and allows for others. It is shown on that DAG and is no outage.

A refusal stays on the DAG until the same has worked. Nothing is held back meanwhile: each call shows what holds now.
"""

from __future__ import annotations

import logging

from django.db import transaction
from django.utils import timezone

from workflows.airflow.errors import AirflowForbiddenError
from workflows.deeds import Deed
from workflows.eventlog import events
from workflows.models import Airflow, CommandKind, Dag

logger = logging.getLogger(__name__)

# Those that decide whether workflows on the DAG work. The others only explain one answer.
SHOWN = frozenset({Deed.SEE, Deed.RUN, Deed.STOP, Deed.RETRY, Deed.PAUSE})
DEED_OF = {
    CommandKind.TRIGGER: Deed.RUN,
    CommandKind.STOP: Deed.STOP,
    CommandKind.CLEAR: Deed.RETRY,
    CommandKind.PAUSE: Deed.PAUSE,
    CommandKind.UNPAUSE: Deed.PAUSE,
    CommandKind.RESULT: Deed.READ_RESULTS,
}


def record_refused(airflow: str, exc: AirflowForbiddenError) -> None:
    """Show what Airflow has refused on the DAG that it is about."""
    logger.warning("a right is missing in Airflow", extra={"error": str(exc)})
    if exc.about:
        dag_id, deed = exc.about
        # What we do not see of its runs, we do not see of the DAG.
        _set(airflow, dag_id, Deed.SEE if deed == Deed.SEE_RUNS else deed, refused=True)


def record_allowed(dag: Dag | None, deed: Deed) -> None:
    """Note that this has worked. `dag` is as it was read before: without a refusal there, nothing is asked."""
    if dag is not None and deed in dag.refused:
        _set(dag.airflow_name, dag.dag_id, deed, refused=False)


@transaction.atomic
def _set(airflow: str, dag_id: str, deed: Deed, *, refused: bool) -> None:
    dags = Dag.objects.of(airflow)
    dag = dags.select_for_update(of=("self",)).brief().filter(dag_id=dag_id).first()
    if dag is None or deed not in SHOWN or (deed in dag.refused) == refused:
        return
    others = [word for word in dag.refused if word != deed]
    dag.refused = sorted([*others, deed] if refused else others)
    dag.save(update_fields=["refused"])
    if deed == Deed.SEE:
        refusing = dags.exclude(refused=[]).values_list("dag_id", "refused")
        hidden = sorted(name for name, deeds in refusing if Deed.SEE in deeds)
        Airflow.objects.filter(name=airflow).update(hidden_dags=hidden)
    events.record(events.synced(dag, changed=["refused"]), now=timezone.now(), dag=dag)
