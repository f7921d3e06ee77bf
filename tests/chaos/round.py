"""One round: the clients and the faults of one seed, the way to rest, and the verdict."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import requests
from django.db import connections

from tests.chaos import airflow_view
from tests.chaos.accepted import Accepted
from tests.chaos.clients import Client, Operator, PersonAtAirflow, Product, QuickPerson, Site
from tests.chaos.faults import Prober, Saboteur, Watchman
from tests.chaos.journal import Journal
from tests.chaos.process import until
from tests.chaos.receiver import Receiver
from tests.chaos.side import Side
from tests.chaos.stand import STOP_SILENCE, SWEEP, Stand
from tests.chaos.verdict import Verdict, story
from tests.chaos.violation import Violation
from tests.live.readers import Loop, PollingReader, Reader, SSEReader, WebSocketReader, reading
from workflows.eventlog import publication
from workflows.models import AirflowCommand, Run
from workflows.states import OPEN

MOST_OPEN = 4  # runs of all products: more than a small machine gets done would only wait for each other
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
    workflows: Mapping[str, Mapping[str, int]]
    receiver: Receiver
    seed: int
    seconds: float
    say: Callable[[str], None]
    journal: Journal = field(default_factory=Journal)
    # By the name of the Airflow.
    accepted: defaultdict[str, Accepted] = field(default_factory=lambda: defaultdict(Accepted))
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
        self.stand.use_listener(self.listens, self.journal)
        watched = threading.Event()
        probers = [Prober(side, self.journal, watched) for side in self.stand.sides]
        watch = self._start([Watchman(self.stand, self.journal, watched).run, *(prober.run for prober in probers)])
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
            runs = sum(len(accepted.runs) for accepted in self.accepted.values())
            done = f"{runs} runs, {len(self.journal.injected())} faults"
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
        """Return two products and two operators, spread over the Airflows, and two people at each of these."""
        sides = self.stand.sides
        clients: list[Client] = []
        for number, side in zip((1, 2), itertools.cycle(sides), strict=False):
            options = {"workflows": self.workflows[side.name], "most_open": MOST_OPEN // len(sides)}
            clients.append(self._client(Product, f"product {number}", side, **options))
            clients.append(self._client(Operator, f"operator {number}", side))
        for side in sides:
            place = side.prefix.capitalize()
            clients.append(self._client(PersonAtAirflow, f"person at {place}", side))
            clients.append(self._client(QuickPerson, f"quick person at {place}", side))
        return clients

    def _client(self, kind: type[Client], name: str, side: Side, **options: Any) -> Client:
        return kind(name, side, self.stand.url, self.journal, self.accepted[side.name], seed=self.seed, **options)

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
        for side in self.stand.sides:
            site = Site(self.stand.url, self.journal, actor="rest", airflow=side.prefix)
            for run in Run.objects.filter(airflow__name=side.name, state__in=OPEN, paused=True):
                path = f"/workflows/{run.workflow_id}/runs/{run.pk}/control"
                site.ask("POST", path, {"action": "resume"}, run_id=str(run.pk))
            with suppress(requests.RequestException):
                for dag in side.ask("GET", "/dags?paused=true&limit=100")["dags"]:
                    side.ask("PATCH", f"/dags/{dag['dag_id']}", {"is_paused": False})

    def _is_quiet(self) -> bool:
        time.sleep(1)
        self._resume()
        if Run.objects.filter(state="pending").exists() or AirflowCommand.objects.pending().exists():
            return False
        return not self._open_in_airflow()

    def _open_in_airflow(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        for side in self.stand.sides:
            try:
                found += airflow_view.runs(side, states=airflow_view.OPEN_IN_AIRFLOW).values()
            except requests.RequestException as exc:
                found.append({"dag_run_id": repr(exc), "state": "?"})
        return found

    def _judge(self, readers: Sequence[Reader], *, cursor: int, since: datetime) -> None:
        """Compare until nothing differs any more, for as long as SVOps may take."""
        begun = time.monotonic()
        while True:
            verdict = Verdict(self.stand.sides, self.journal, self.accepted, since=since)
            found = verdict.violations(readers, self.receiver.accepted, cursor=cursor)
            self.rested_after = time.monotonic() - begun
            if all(one.lasting for one in found) or self.rested_after > QUIET:
                break
            differs = Counter(one.promise for one in found).most_common(3)
            self.say(f"{len(found)} differences after {self.rested_after:.0f} s of quiet: {dict(differs)}")
            time.sleep(3)
        self.violations += found
        self.runs = verdict.runs
        self.tasks = verdict.task_count
        self.stories = {one.run_id: story(self.journal, self.runs, one.run_id) for one in found if one.run_id}
