"""Whatever polls a run gets, and in whatever order they are observed, its events are true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from workflows.airflow import types
from workflows.models import Run, Workflow
from workflows.tests.stage import at, dag_run, new_run, story, task
from workflows.watch import observe
from workflows.watch.observation import AIRFLOW_TERMINAL, Observation

pytestmark = pytest.mark.django_db

BEGIN = 2  # when the run starts; its tasks come after


@dataclass(frozen=True)
class Try:
    """One try of a task: it waits, runs, may pause in the middle, and ends."""

    queued: int
    started: int
    paused: int | None
    ended: int
    outcome: str

    def seen_at(self, second: int, before: Try | None) -> tuple[str, int | None, int | None]:
        """State, start and end as Airflow shows them. A waiting try still shows the times of the try before."""
        if second < self.started:
            return ("queued", before.started, before.ended) if before else ("queued", None, None)
        if second >= self.ended:
            return self.outcome, self.started, self.ended
        if self.paused is not None and second >= self.paused:
            return ("deferred", "queued")[second % 2], self.started, None
        return "running", self.started, None


@dataclass(frozen=True)
class Life:
    """What really happens in Airflow: the tries of each task, by name."""

    tasks: dict[str, list[Try]]

    @property
    def end(self) -> int:
        return max(tries[-1].ended for tries in self.tasks.values()) + 1

    @property
    def outcome(self) -> str:
        return "failed" if any(tries[-1].outcome == "failed" for tries in self.tasks.values()) else "success"

    def run_at(self, run: Run, second: int) -> types.DagRun:
        if second < BEGIN:
            return dag_run(run, "queued")
        if second < self.end:
            return dag_run(run, "running", start=BEGIN)
        return dag_run(run, self.outcome, start=BEGIN, end=self.end)

    def task_at(self, run: Run, name: str, second: int) -> types.TaskInstance:
        tries = self.tasks[name]
        number = sum(one.queued <= second for one in tries)
        if not number:
            return task(run, name, None, tries=0)
        before = tries[number - 2] if number > 1 else None
        state, start, end = tries[number - 1].seen_at(second, before)
        return task(run, name, state, tries=number, start=start, end=end)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    steps = st.integers(1, 4)

    def one_task() -> list[Try]:
        tries: list[Try] = []
        now = BEGIN
        last = draw(st.sampled_from(["success", "success", "failed"]))
        for outcome in ["up_for_retry"] * draw(st.integers(0, 2)) + [last]:
            queued = now + draw(steps)
            started = queued + draw(steps)
            paused = started + 1 if draw(st.booleans()) else None
            now = started + 2 + draw(steps)
            tries.append(Try(queued, started, paused, now, outcome))
        return tries

    return Life({f"t{n}": one_task() for n in range(draw(st.integers(1, 3)))})


@dataclass(frozen=True)
class Poll:
    begun: int
    tasks_read: int
    names: frozenset[str]
    with_run: bool


@st.composite
def polls(draw: st.DrawFn, life: Life) -> list[Poll]:
    """Polls one after the other, each with a duration and some of the tasks, observed in any order."""
    moments = sorted(draw(st.lists(st.integers(0, life.end + 3), max_size=16, unique=True)))
    names = st.frozensets(st.sampled_from(sorted(life.tasks)))
    pairs = zip(moments[::2], moments[1::2], strict=False)
    made = [Poll(begun, read, draw(names), draw(st.booleans())) for begun, read in pairs]
    return draw(st.permutations(made)) if draw(st.booleans()) else made


def observed(run: Run, life: Life, poll: Poll) -> None:
    seen = life.run_at(run, poll.begun) if poll.with_run else None
    whole = seen is not None and seen.state in AIRFLOW_TERMINAL
    names = life.tasks if whole else poll.names
    tasks = [life.task_at(run, name, poll.tasks_read) for name in sorted(names)]
    observe.observe(run.pk, Observation(at=at(poll.begun), run=seen, tasks=tasks, all_tasks=whole))


@given(data=st.data())
@settings(
    max_examples=60,
    deadline=None,
    # Without shrinking: each example is a run in the database, and the drawn life is readable as it is.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_observations_of_a_run_record_its_story_in_order_and_to_the_end(nightly: Workflow, data: Any) -> None:
    life = data.draw(lives())
    run = new_run(nightly)

    for poll in data.draw(polls(life)):
        observed(run, life, poll)
    observed(run, life, Poll(life.end + 5, life.end + 5, frozenset(), with_run=True))

    run.refresh_from_db()
    recorded = story(run)
    seqs = list(run.events.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(recorded) + 1))
    assert run.event_count == len(recorded)
    assert len(set(recorded)) == len(recorded)
    ending = {"success": "workflow.completed", "failed": "workflow.failed"}[life.outcome]
    assert (recorded[0], recorded[-1]) == ("workflow.started", ending)
    assert (run.state, run.started_at, run.ended_at) == (life.outcome, at(BEGIN), at(life.end))
    for name, tries in life.tasks.items():
        assert_recorded(recorded, name, tries)
    states = {instance.task_id: (instance.state, instance.try_number) for instance in run.tasks.all()}
    assert states == {name: (tries[-1].outcome, len(tries)) for name, tries in life.tasks.items()}


def assert_recorded(recorded: list[str], name: str, tries: list[Try]) -> None:
    """Check that each recorded try starts before it ends, and that the last one has its true end."""
    places = {event: place for place, event in enumerate(recorded) if event.split()[1:2] == [name]}
    last = {"success": "task.completed", "failed": "task.failed"}[tries[-1].outcome]
    assert {f"task.started {name} {len(tries)}", f"{last} {name} {len(tries)}"} <= places.keys()
    for number in range(1, len(tries) + 1):
        end = f"{last} {name} {number}" if number == len(tries) else f"task.retrying {name} {number}"
        pair = [places.get(f"task.started {name} {number}"), places.get(end)]
        assert pair == [None, None] or (None not in pair and pair[0] < pair[1])  # type: ignore[operator]
    assert list(places.values()) == sorted(places.values())
    numbers = [int(event.split()[2]) for event in places]
    assert numbers == sorted(numbers)
