"""One real run of a DAG that the operator has named. It is started, read and stopped, and no workflow gets it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from svops.doctor.airflow import PART
from svops.doctor.findings import Finding, Outcome, timed
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError, AirflowForbiddenError, AirflowNotFoundError
from workflows.watch.adoption import DOCTORS


@dataclass
class RealRun:
    """The run. `begun_at` is set once Airflow has it."""

    client: AirflowClient
    dag_id: str
    begun_at: datetime | None = None
    is_paused: bool = False

    def __post_init__(self) -> None:
        self.dag_run_id = f"{DOCTORS}{uuid.uuid4()}"

    def start(self) -> Iterator[Finding]:
        at = timezone.now()
        conf: dict[str, object] = {}
        finding = _done(
            "start a real run",
            lambda: self.client.runs.trigger(
                self.dag_id, dag_run_id=self.dag_run_id, conf=conf, note="by SVOps' doctor"
            ),
            found=f"{self.dag_id} {self.dag_run_id}",
        )
        yield finding
        if finding.outcome != Outcome.WORKS:
            return
        self.begun_at = at
        yield _done("read the real run", lambda: self.client.runs.get(self.dag_id, self.dag_run_id))
        one = {self.dag_id: [self.dag_run_id]}
        yield _done("read its tasks", lambda: self.client.tasks.list(dag_run_ids=one))
        self.is_paused = self.client.dags.get(self.dag_id).is_paused

    def end(self) -> Iterator[Finding]:
        if self.begun_at is None:
            return
        dag_id, run_id = self.dag_id, self.dag_run_id
        yield _done("stop the real run", lambda: self.client.runs.set_state(dag_id, run_id, "failed"))
        yield _done(
            "retry it, as a dry run",
            lambda: self.client.tasks.clear(dag_id, run_id, only_failed=False, dry_run=True),
        )
        # To what it is.
        yield _done("set its DAG's pause", lambda: self.client.dags.set_paused(dag_id, self.is_paused))


def _done(check: str, do: Callable[[], object], *, found: str = "") -> Finding:
    outcome, mend = Outcome.WORKS, ""
    with timed() as watch:
        try:
            do()
        except AirflowForbiddenError as exc:
            outcome, found, mend = Outcome.MISSING, str(exc), "See the rows above: they name the right."
        except AirflowNotFoundError as exc:
            outcome, found, mend = Outcome.WRONG, str(exc), "Name a DAG that Airflow shows SVOps' user."
        except AirflowError as exc:
            outcome, found, mend = Outcome.WRONG, str(exc), "Name a DAG that runs without parameters."
    return Finding(part=PART, check=check, outcome=outcome, found=found, mend=mend, ms=watch.ms)
