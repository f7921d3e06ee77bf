"""The results of runs that end in this poll or push: read at once if that is quick, else owed.

The end of a run waits `LONGEST_WAIT` seconds for its result at most, and only of an Airflow that answers. What is not
read here is read by `workflows.dispatch.results`, with retries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError, AirflowNotFoundError
from workflows.dispatch.results import read_one
from workflows.lifecycle.results import Found
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.watch.known import Key
from workflows.watch.observation import Observation

logger = logging.getLogger(__name__)

LONGEST_WAIT = 1.0
# Of one poll. Many runs that end together must not hold up the news of others.
MOST = 20


def read_at_once(
    client: AirflowClient, ours: Mapping[Key, Run], observations: Mapping[Key, Observation]
) -> dict[Key, Found]:
    """Return the results of those runs that now succeed, as far as Airflow gives them quickly.

    A mapped task, and one that has returned nothing, need what is known of all tasks: they are left out.
    """
    ending = {key: ours[key] for key, one in observations.items() if _succeeds(ours[key], one)}
    if not ending:
        return {}
    workflows = Workflow.objects.filter(pk__in={run.workflow_id for run in ending.values()}).exclude(result_task="")
    tasks = dict(workflows.values_list("pk", "result_task"))
    wanted = {key: tasks[run.workflow_id] for key, run in ending.items() if run.workflow_id in tasks}
    if not wanted or not gateway.breaker_is_closed(client.name):
        return {}
    found: dict[Key, Found] = {}
    try:
        with client.within(LONGEST_WAIT):
            for key in list(wanted)[:MOST]:
                try:
                    found[key] = read_one(client, ours[key], wanted[key])
                except AirflowNotFoundError:
                    continue
    except AirflowError as exc:
        logger.info("results are read later", extra={"runs": len(wanted) - len(found), "error": str(exc)})
    return found


def _succeeds(run: Run, observation: Observation) -> bool:
    end = observation.end
    return end is not None and end.state == "success" and run.state not in {RunState.SUCCESS, RunState.STOPPING}
