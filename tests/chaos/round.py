"""One round: the clients and the faults of one seed, the way to rest, and the verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import requests
from django.db import connections

from tests.chaos import airflow_view
from tests.chaos.accepted import Accepted
from tests.chaos.clients import Client, Operator, PersonAtAirflow, Product, QuickPerson, Site
from tests.chaos.faults import Prober, Saboteur, Watchman
from tests.chaos.journal import Journal
from tests.chaos.process import until
from tests.chaos.receiver import Receiver
from tests.chaos.stand import STOP_SILENCE, SWEEP, Stand
from tests.chaos.verdict import Verdict, story
from tests.chaos.violation import Violation
from tests.live.readers import Loop, PollingReader, Reader, SSEReader, WebSocketReader, reading
from workflows.eventlog import publication
from workflows.models import AirflowCommand, Run
from workflows.states import OPEN

SABOTEURS = 3  # their faults overlap
PAUSE_BETWEEN_FAULTS = 3.0  # seconds between the faults of one saboteur, the mean
AIRFLOW_RESTS_WITHIN = 420.0  # its tasks, timeouts and orphans need so long at most on a busy machine
# "Within one sweep of quiet": the lease of a poll that was killed expires after a minute, then a sweep finds what is
# missing. A stop whose exit proof was killed with its supervisor needs the silence on top.
LEASE = 60.0
QUIET = LEASE + SWEEP + STOP_SILENCE


@dataclass
class Round:
    """`run` returns its violations. Everything else is for the report."""

    stand: Stand
    workflows: Mapping[str, int]
    receiver: Receiver
    seed: int
    seconds: float
    say: Callable[[str], None]
    journal: Journal = field(default_factory=Journal)
    accepted: Accepted = field(default_factory=Accepted)
    violations: list[Violation] = field(default_factory=list)
    stories: dict[str, list[str]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    tasks: int = 0
    rested_after: float = 0.0
    listens: bool = True
    _errors: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        since = datetime.now(UTC)
        # Two of three seeds have the listener, which the faults cut off now and then.
        self.listens = self.seed % 3 != 0
        self.stand.use_listener(self.listens)
        watched = threading.Event()
        watch = self._start(
            [Watchman(self.stand, self.journal, watched).run, Prober(self.stand, self.journal, watched).run]
        )
        with self._readers() as (readers, cursor):
            self._break_things()
            self._come_to_rest()
            self._judge(readers, cursor=cursor, since=since)
        watched.set()
        for thread in watch:
            thread.join()
        if self._errors:
            raise RuntimeError("the machine itself failed") from self._errors[0]

    def _break_things(self) -> None:
        stop = threading.Event()
        saboteurs = [
            Saboteur(self.stand, self.journal, seed=f"{self.seed} {n}", stop=stop, mean_pause=PAUSE_BETWEEN_FAULTS)
            for n in range(SABOTEURS)
        ]
        threads = self._start(saboteur.run for saboteur in saboteurs)
        threads += self._start(partial(client.run, stop) for client in self._clients())
        ends = time.monotonic() + self.seconds
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(15, left))
            done = f"{len(self.accepted.runs)} runs, {len(self.journal.injected())} faults"
            self.say(f"{max(0, ends - time.monotonic()):4.0f} s left: {done}, {len(self.journal.entries)} requests")
        stop.set()
        for thread in threads:
            thread.join()

    def _start(self, jobs: Iterable[Callable[[], None]]) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as exc:  # noqa: BLE001 - raised again at the end of the round
            self._errors.append(exc)
            self.say(f"the machine itself failed: {exc!r}")

    def _clients(self) -> list[Client]:
        products = [
            Product(f"product {n}", self.stand, self.journal, self.accepted, seed=self.seed, workflows=self.workflows)
            for n in (1, 2)
        ]
        operators = [Operator(f"operator {n}", self.stand, self.journal, self.accepted, seed=self.seed) for n in (1, 2)]
        person = PersonAtAirflow("person at Airflow", self.stand, self.journal, self.accepted, seed=self.seed)
        quick = QuickPerson("quick person", self.stand, self.journal, self.accepted, seed=self.seed)
        return [*products, *operators, person, quick]

    @contextmanager
    def _readers(self) -> Iterator[tuple[Sequence[Reader], int]]:
        connections.close_all()
        loop, cursor = Loop(), publication.head()
        site = Site(self.stand.url, self.journal, actor="reader")
        kinds: Sequence[Callable[..., Reader]] = (WebSocketReader, WebSocketReader, SSEReader, PollingReader)
        readers = [kind(bases=[self.stand.url], token=site.token(), cursor=cursor, pause=0.5) for kind in kinds]
        with reading(loop, readers):
            yield readers, cursor
        loop.stop()

    # --- the way to rest --------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Let everything go on, and wait until Airflow has no open run and SVOps no command for it."""
        for process in self.stand.processes.values():
            process.wait_until_ready()
        # PostgreSQL was killed under the connections of this process.
        connections.close_all()
        try:
            took = until(self._is_quiet, within=AIRFLOW_RESTS_WITHIN, what="Airflow has no open run, SVOps no command")
        except TimeoutError as exc:
            waiting = [str(command) for command in AirflowCommand.objects.pending()]
            there = [f"{run['dag_run_id']} {run['state']}" for run in self._open_in_airflow()]
            self.violations.append(Violation("the platform comes to rest", f"{exc}: {waiting} {there}"))
        else:
            self.say(f"Airflow is at rest after {took:.0f} s")

    def _resume(self) -> None:
        """Resume what is paused, each time anew: SVOps may hand a pause over only now that Airflow is back."""
        site = Site(self.stand.url, self.journal, actor="rest")
        for run in Run.objects.filter(state__in=OPEN, paused=True).select_related("workflow"):
            path = f"/workflows/{run.workflow_id}/runs/{run.pk}/control"
            site.ask("POST", path, {"action": "resume"}, run_id=str(run.pk))
        with suppress(requests.RequestException):
            for dag in self.stand.ask_airflow("GET", "/dags?paused=true&limit=100")["dags"]:
                self.stand.ask_airflow("PATCH", f"/dags/{dag['dag_id']}", {"is_paused": False})

    def _is_quiet(self) -> bool:
        time.sleep(1)
        self._resume()
        if Run.objects.filter(state="pending").exists() or AirflowCommand.objects.pending().exists():
            return False
        return not self._open_in_airflow()

    def _open_in_airflow(self) -> list[dict[str, str]]:
        try:
            return list(airflow_view.runs(self.stand, states=airflow_view.OPEN_IN_AIRFLOW).values())
        except requests.RequestException as exc:
            return [{"dag_run_id": repr(exc), "state": "?"}]

    def _judge(self, readers: Sequence[Reader], *, cursor: int, since: datetime) -> None:
        """Compare until nothing differs any more, for as long as SVOps may take."""
        begun = time.monotonic()
        while True:
            verdict = Verdict(self.stand, self.journal, self.accepted, since=since, seed=self.seed)
            found = verdict.violations(readers, self.receiver.accepted, cursor=cursor)
            self.rested_after = time.monotonic() - begun
            if all(one.lasting for one in found) or self.rested_after > QUIET:
                break
            differs = Counter(one.promise for one in found).most_common(3)
            self.say(f"{len(found)} differences after {self.rested_after:.0f} s of quiet: {dict(differs)}")
            time.sleep(3)
        self.violations += found
        self.runs = list(verdict.runs.values())
        self.tasks = sum(len(tasks) for tasks in verdict.tasks.values())
        self.stories = {one.run_id: story(self.journal, self.runs, one.run_id) for one in found if one.run_id}
