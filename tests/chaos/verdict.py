"""Says, once all is quiet, which promises do not hold: in each Airflow, over all of them, and in SVOps itself.

Imported only after Django is set up: it reads SVOps' tables directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import permutations

from django.db.models import Q
from django.utils import timezone

from accounts import audit
from notifications.models import Delivery, NotificationConfig, Status
from tests.chaos import history
from tests.chaos.accepted import Accepted
from tests.chaos.comparison import Comparison
from tests.chaos.journal import Journal
from tests.chaos.side import Side
from tests.chaos.violation import Violation
from tests.live.readers import Reader
from workflows.models import Airflow, AirflowCommand, Event, Run


class Verdict:
    """`violations` of all runs since `since`, seen at one moment. `accepted` is by the name of the Airflow."""

    def __init__(
        self, sides: Sequence[Side], journal: Journal, accepted: Mapping[str, Accepted], *, since: datetime
    ) -> None:
        self._prefixes = {side.name: side.prefix for side in sides}
        self._journal = journal
        self._since = since
        self._compared = {side.name: Comparison(side, accepted[side.name], since=since) for side in sides}

    @property
    def runs(self) -> list[Run]:
        return [run for one in self._compared.values() for run in one.runs.values()]

    @property
    def task_count(self) -> int:
        return sum(len(tasks) for one in self._compared.values() for tasks in one.tasks.values())

    def violations(
        self, readers: Iterable[Reader], received: Counter[tuple[int, str]], *, cursor: int
    ) -> list[Violation]:
        """Return every promise that does not hold; `cursor` is where the readers began to read."""
        return [
            *(violation for one in self._compared.values() for violation in one.violations()),
            *self._in_one_airflow(),
            *self._outages(),
            *_streams(readers, cursor=cursor),
            *_deliveries(received),
            *_leases(),
            *self._audit(),
            *self._answers(),
            *self._deaths(),
        ]

    # --- the Airflows together --------------------------------------------------------------------------

    def _in_one_airflow(self) -> Iterator[Violation]:
        """What was triggered is once in its own Airflow, and in no other."""
        sent = {label for one in self._compared.values() for label in one.accepted.sent}
        ours = {
            name: {dag_run_id: label for dag_run_id, label in one.labels().items() if label in sent}
            for name, one in self._compared.items()
        }
        for label, times in Counter(label for labels in ours.values() for label in labels.values()).items():
            if times > 1:
                yield Violation("one Airflow run for a trigger", f"{times} for {label}")
        for name, one in self._compared.items():
            for dag_run_id in ours[name].keys() - one.runs.keys():
                yield Violation("every Airflow run of ours is known", f"{dag_run_id} in {name}")
        for (here, one), (there, other) in permutations(self._compared.items(), 2):
            for dag_run_id in one.runs.keys() & other.all_in_airflow.keys():
                yield Violation(
                    "a run is in its own Airflow", f"{dag_run_id} of {here} is in {there}", str(one.runs[dag_run_id].pk)
                )

    def _outages(self) -> Iterator[Violation]:
        events = Event.objects.filter(type__in=history.OUTAGE, timestamp__gte=self._since).order_by("position")
        yield from history.outages(events, self._has_cause)
        for airflow in Airflow.objects.filter(is_active=True, reachable=False):
            yield Violation("an outage ends", f"{airflow.name}: {airflow.last_error}")

    def _has_cause(self, outage: Event) -> bool:
        if len(self._prefixes) == 1:
            # There is no other one to mistake it for, and on a busy machine it may be slow without a fault.
            return True
        prefix = self._prefixes[outage.data["airflow"]]
        return self._journal.explains_outage(outage.timestamp, prefix)

    # --- the rest ---------------------------------------------------------------------------------------

    def _audit(self) -> Iterator[Violation]:
        if broken := audit.verify().broken:
            yield Violation("the audit chain is whole", str(broken))

    def _answers(self) -> Iterator[Violation]:
        for entry in self._journal.unexplained():
            yield Violation("a 5xx has a cause", f"{entry.at:%H:%M:%S} {entry}", entry.run_id, lasting=True)

    def _deaths(self) -> Iterator[Violation]:
        for fault in self._journal.faults:
            if fault.kind == "died by itself" and fault.target in {"web", "worker", "beat"}:
                yield Violation("a part of SVOps outlives what it needs", f"{fault.target} ended", lasting=True)


def _streams(readers: Iterable[Reader], *, cursor: int) -> Iterator[Violation]:
    """Each reader has to have every position after the cursor that it began with, in order and once."""
    after = Event.objects.filter(position__gt=cursor).order_by("position")
    expected = [position for position in after.values_list("position", flat=True) if position is not None]
    for reader in readers:
        if reader.wrong or reader.ids != expected:
            yield Violation("a client's log is the table", reader.describe(expected))


def _deliveries(received: Counter[tuple[int, str]]) -> Iterator[Violation]:
    for config in NotificationConfig.objects.filter(channel="webhook"):
        types = [name.replace("_", ".", 1) for name in config.notification_types]
        matching = Event.objects.filter(type__in=types, timestamp__gte=config.created_at)
        without = matching.exclude(deliveries__config=config)
        if count := without.count():
            yield Violation("a delivery for each event", f"{count} events have none, as {without[0].pk}")
    overdue = Delivery.objects.filter(status=Status.PENDING, due_at__lt=timezone.now())
    if count := overdue.count():
        yield Violation("no delivery is forgotten", f"{count} are overdue")
    if count := Delivery.objects.filter(status__in=(Status.FAILED, Status.SUPPRESSED)).count():
        yield Violation("no delivery is given up", f"{count}")
    per_event: Counter[int] = Counter(event_id for event_id, _ in received)
    for event_id, count in per_event.items():
        if count > 1:
            yield Violation("no event is notified twice as new", f"event {event_id} under {count} message ids")
    delivered = Delivery.objects.filter(status=Status.DELIVERED, event__isnull=False, config__channel="webhook")
    for position in delivered.values_list("event__position", flat=True):
        if position not in per_event:
            yield Violation("what is called delivered has arrived", f"event {position}")


def _leases() -> Iterator[Violation]:
    now = timezone.now()
    held = AirflowCommand.objects.filter(finished_at__isnull=True, leased_until__lt=now)
    if count := held.count():
        yield Violation("no lease of the dead", f"{count} commands")
    if Airflow.objects.filter(Q(dispatch_leased_until__lt=now) | Q(leased_until__lt=now)).exists():
        yield Violation("no lease of the dead", "of the poll or the dispatch")
    if count := Delivery.objects.filter(status=Status.PENDING, leased_until__lt=now).count():
        yield Violation("no lease of the dead", f"{count} deliveries")
    waiting = AirflowCommand.objects.filter(finished_at__isnull=True)
    if count := waiting.count():
        yield Violation("no command is forgotten", f"{count}: {[str(command) for command in waiting[:5]]}")


def story(journal: Journal, runs: Sequence[Run], run_id: str) -> list[str]:
    """Return all that is known of a run in order: requests and faults, and the events of SVOps."""
    lines = [*journal.story(run_id)]
    for event in Event.objects.filter(run_id=run_id):
        data = {name: value for name, value in event.data.items() if value not in (None, "")}
        lines.append((event.timestamp, f"    event {event.seq} {event.type} {event.task_id} {data}"))
    return [f"{at:%H:%M:%S.%f} {text}" for at, text in sorted(lines, key=lambda line: line[0])]
