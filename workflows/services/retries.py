"""Which task instances a retry runs again: from the graph and the instances of an ended run, without any call.

Airflow skips for two reasons that its states do not tell apart: a branch, a short circuit or a trigger rule decided
so, or the run ended (marked failed, stopped, `dagrun_timeout`) before the task could run. A retry repeats the second
kind only. A skip counts as a decision if the times or the graph explain it; otherwise the end of the run is its cause.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from workflows.dispatch.commands import TaskSelection

FAILED = frozenset({"failed", "upstream_failed"})
TEARDOWN_RULE = "all_done_setup_success"
# Airflow ends the tasks of a run one after the other, and the clocks of its machines differ.
SLACK = timedelta(seconds=2)


class Key(NamedTuple):
    task_id: str
    map_index: int


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A task instance as Airflow last showed it. `awaited_try`: its last try failed and a further one was to follow."""

    key: Key
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    awaited_try: bool = False

    @property
    def has_run(self) -> bool:
        """Whether it had a process. Airflow gives an instance that it skips or fails without one two equal times."""
        return self.started_at is not None and self.started_at != self.ended_at

    def at_work_until(self) -> datetime | None:
        """Return until when it was certainly running and not ended by the end of the run; None if that is unknown."""
        if self.ended_at is None or not self.has_run:
            return None
        return {"success": self.ended_at, "failed": self.ended_at - SLACK}.get(self.state)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of the graph. `role` is "setup", "teardown" or None. Tasks in a `mapped_group` are mapped together."""

    task_id: str
    downstream: tuple[str, ...] = ()
    trigger_rule: str = "all_success"
    operator: str = ""
    is_mapped: bool = False
    role: str | None = None
    mapped_group: str | None = None

    @property
    def decides(self) -> bool:
        """Whether it is known to skip tasks after it. Classes with other names may do so too."""
        name = self.operator.lower()
        return any(word in name for word in ("branch", "short_circuit", "shortcircuit", "latestonly"))


@dataclass(frozen=True)
class Graph:
    tasks: Mapping[str, Task] = field(default_factory=dict)
    _after: dict[str, set[str]] = field(default_factory=dict, repr=False, compare=False)
    _before: dict[str, set[str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, stored: Iterable[Mapping[str, Any]]) -> Graph:
        """Return the graph that a DAG's mirror has stored."""
        graph = cls({task["task_id"]: _task_of(task) for task in stored})
        return graph if any(task.role for task in graph.tasks.values()) else graph.with_guessed_roles()

    def with_guessed_roles(self) -> Graph:
        """Return the graph with the roles of tasks around a teardown, where Airflow does not say which they have.

        Only teardowns have their trigger rule. A setup leads to its teardown directly and through the work between.
        """
        roles = {name: "teardown" for name, task in self.tasks.items() if task.trigger_rule == TEARDOWN_RULE}
        for name, task in self.tasks.items():
            around = [after for after in task.downstream if after in roles and roles[after] == "teardown"]
            if any(after in self.after(other) for after in around for other in task.downstream if other != after):
                roles[name] = "setup"
        tasks = {name: replace(task, role=roles.get(name)) for name, task in self.tasks.items()}
        return Graph(tasks)

    def task(self, task_id: str) -> Task:
        """Return the task. One that the DAG no longer has stands alone."""
        return self.tasks.get(task_id) or Task(task_id=task_id)

    @cached_property
    def upstream(self) -> Mapping[str, list[str]]:
        """Return the tasks directly before each task that has some."""
        upstream: dict[str, list[str]] = {}
        for name, task in self.tasks.items():
            for after in task.downstream:
                upstream.setdefault(after, []).append(name)
        return upstream

    def after(self, task_id: str) -> set[str]:
        """Return all tasks that follow this one."""
        if task_id not in self._after:
            self._after[task_id] = _reached(task_id, lambda name: self.task(name).downstream)
        return self._after[task_id]

    def before(self, task_id: str) -> set[str]:
        """Return all tasks that this one follows."""
        if task_id not in self._before:
            self._before[task_id] = _reached(task_id, lambda name: self.upstream.get(name, []))
        return self._before[task_id]

    def in_order(self, names: Collection[str]) -> list[str]:
        """Return the names so that each comes after those before it in the graph."""
        return sorted(names, key=lambda name: (len(self.before(name)), name))

    def indexes_meet(self, one: Key, other: Key) -> bool:
        """Return whether the instances belong together: in a mapped group, only those of the same index do."""
        group = self.task(one.task_id).mapped_group
        together = group is not None and group == self.task(other.task_id).mapped_group
        return not together or min(one.map_index, other.map_index) < 0 or one.map_index == other.map_index


def _task_of(stored: Mapping[str, Any]) -> Task:
    return Task(
        task_id=stored["task_id"],
        downstream=tuple(stored["downstream_task_ids"]),
        trigger_rule=stored.get("trigger_rule") or "all_success",
        operator=stored.get("operator") or "",
        is_mapped=bool(stored.get("is_mapped")),
        role=stored.get("role"),
        mapped_group=stored.get("mapped_group"),
    )


def _reached(start: str, neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = set(neighbours(waiting.pop())) - found
        found |= new
        waiting.extend(new)
    return found


class Retry:
    """The instances of one ended run, and what a retry of some of them repeats."""

    def __init__(self, graph: Graph, instances: Collection[Instance], *, ended_at: datetime | None = None) -> None:
        self._graph = graph
        self._ended_at = ended_at
        # A removed instance belongs to an expansion that no longer exists.
        self._instances = {one.key: one for one in instances if one.state != "removed"}
        self._removed = {one.key.task_id for one in instances if one.state == "removed"}
        self._order = graph.in_order({*graph.tasks, *(key.task_id for key in self._instances)})
        self._upstream_of: dict[Key, list[Instance]] = {}
        self._skipped_by_rule: dict[Key, bool] = {}
        self._decided = self._decided_skips()

    def of_failed(self) -> set[Key]:
        """Return what failed or was cut off, what follows it, and the setups and teardowns around it."""
        return self.of({key for key, one in self._instances.items() if self._is_cut_off(one)})

    def of(self, begin: Collection[Key]) -> set[Key]:
        """Return these instances, what follows them, and the setups and teardowns around them."""
        cleared = self._with_followers(begin)
        return cleared | self._around(cleared)

    def selection(self, cleared: Collection[Key]) -> TaskSelection:
        """Return the selection that clears exactly these: whole tasks, or instances of a task if not all of it."""
        by_task: dict[str, list[Key]] = {}
        for key in sorted(cleared):
            by_task.setdefault(key.task_id, []).append(key)
        whole = [name for name, keys in by_task.items() if self._is_whole(name, keys)]
        single = [list(key) for name, keys in by_task.items() if name not in whole for key in keys]
        # Airflow 2.11 clears all instances of the named tasks. This keeps it from the successful ones.
        only_failed = bool(single) and all(self._instances[key].state in FAILED for key in cleared)
        return TaskSelection(task_ids=whole, instances=single, only_failed=only_failed)

    def _is_whole(self, task_id: str, keys: Collection[Key]) -> bool:
        return task_id not in self._removed and len(keys) == len(self._of_task(task_id))

    def _of_task(self, task_id: str) -> list[Instance]:
        return self._by_task.get(task_id, [])

    @cached_property
    def _by_task(self) -> Mapping[str, list[Instance]]:
        by_task: dict[str, list[Instance]] = {}
        for one in self._instances.values():
            by_task.setdefault(one.key.task_id, []).append(one)
        return by_task

    def _upstream(self, key: Key) -> list[Instance]:
        """Return the instances that this one follows directly."""
        place = self._place(key)
        if place not in self._upstream_of:
            before = (one for name in self._graph.upstream.get(key.task_id, []) for one in self._of_task(name))
            self._upstream_of[place] = [one for one in before if self._graph.indexes_meet(one.key, place)]
        return self._upstream_of[place]

    def _place(self, key: Key) -> Key:
        """Return the same for all instances that follow the same ones: outside of a mapped group, all of a task do."""
        return key if self._graph.task(key.task_id).mapped_group else Key(key.task_id, -1)

    # --- what was cut off, and what was skipped on purpose ---

    def _is_cut_off(self, one: Instance) -> bool:
        return one.state != "success" and one.key not in self._decided

    def _decided_skips(self) -> set[Key]:
        """Return the instances that were skipped on purpose."""
        decided: set[Key] = set()
        for name in self._order:
            decided |= {
                one.key for one in self._of_task(name) if one.state == "skipped" and self._is_decided(one, decided)
            }
        return decided

    def _is_decided(self, one: Instance, decided: set[Key]) -> bool:
        if one.ended_at is None:
            # Only `dagrun_timeout` sets a state without a time.
            return False
        if one.has_run:
            return self._raised_its_skip(one)
        if self._was_work_going_on(one.ended_at):
            return True
        place = self._place(one.key)
        if place not in self._skipped_by_rule:
            self._skipped_by_rule[place] = self._rule_skips(place, self._upstream(place), decided)
        if self._skipped_by_rule[place]:
            return True
        return self._can_skip(one.key) and self._latest_end is not None and one.ended_at < self._latest_end - SLACK

    def _raised_its_skip(self, one: Instance) -> bool:
        """Return whether the task skipped itself. Otherwise it waited for its next try when the run ended."""
        if one.awaited_try or self._has_timed_out or one.ended_at is None:
            return False
        return self._ended_at is None or one.ended_at < self._ended_at - SLACK

    @cached_property
    def _has_timed_out(self) -> bool:
        return any(one.state == "skipped" and one.ended_at is None for one in self._instances.values())

    def _was_work_going_on(self, at: datetime) -> bool:
        """Return whether some task was running at that moment and went on: then the run had not ended."""
        starts, latest_ends = self._spans
        before = bisect_right(starts, at)
        return before > 0 and latest_ends[before - 1] >= at

    @cached_property
    def _spans(self) -> tuple[list[datetime], list[datetime]]:
        """Return the starts of all work in order, and the latest end up to each. Teardowns go on when a run ends."""
        work = [one for one in self._instances.values() if not self._is_teardown(one)]
        spans = sorted((one.started_at, until) for one in work if one.started_at and (until := one.at_work_until()))
        return [start for start, _ in spans], list(accumulate((end for _, end in spans), max))

    @cached_property
    def _latest_end(self) -> datetime | None:
        return max(
            (one.ended_at for one in self._instances.values() if one.ended_at and not self._is_teardown(one)),
            default=None,
        )

    def _is_teardown(self, one: Instance) -> bool:
        return self._graph.task(one.key.task_id).role == "teardown"

    def _can_skip(self, key: Key) -> bool:
        """Return whether a task before it decides about it, or it is a mapped task that may have had nothing to map."""
        upstream = self._upstream(key)
        unexpanded = self._graph.task(key.task_id).is_mapped and key.map_index < 0
        if unexpanded and all(other.state == "success" for other in upstream):
            return True
        deciders = [name for name in self._graph.upstream.get(key.task_id, []) if self._graph.task(name).decides]
        return any(other.state == "success" for other in upstream if other.key.task_id in deciders)

    def _rule_skips(self, key: Key, upstream: Collection[Instance], decided: Collection[Key]) -> bool:
        """Return whether the trigger rule skips the instance, given how these instances before it ended."""
        count = Counter(_outcome(other, decided) for other in upstream)
        rule = _SKIPS.get(self._graph.task(key.task_id).trigger_rule)
        return bool(upstream and rule and rule(count, len(upstream)))

    # --- what runs again with them ---

    def _with_followers(self, begin: Collection[Key]) -> set[Key]:
        """Add what follows them. What was skipped on purpose stays skipped while its reason is not repeated itself."""
        cleared, reached = set(begin), _Reached(self._graph, begin)
        for name in self._order:
            if not self._of_task(name) and reached.by(Key(name, -1)):
                reached.add(Key(name, -1))
            for one in self._of_task(name):
                if reached.by(one.key):
                    reached.add(one.key)
                    if not self._stays_skipped(one, cleared):
                        cleared.add(one.key)
        return cleared

    def _stays_skipped(self, one: Instance, cleared: set[Key]) -> bool:
        if one.key not in self._decided or one.has_run or one.ended_at is None:
            return False
        kept = [other for other in self._upstream(one.key) if other.key not in cleared]
        if self._rule_skips_by(one.key, kept):
            return True
        if any(other.state == "success" and self._graph.task(other.key.task_id).decides for other in kept):
            return True
        before = self._graph.before(one.key.task_id)
        earlier = [other for name in before for other in self._of_task(name) if other.key not in cleared]
        return any(_decided_during(other, one.ended_at) for other in earlier)

    def _rule_skips_by(self, key: Key, kept: Collection[Instance]) -> bool:
        """Return whether the instances before it that keep their states are enough for its trigger rule to skip it."""
        one_is_enough = self._graph.task(key.task_id).trigger_rule in _ONE_IS_ENOUGH
        if not one_is_enough and len(kept) < len(self._upstream(key)):
            return False
        return self._rule_skips(key, kept, self._decided)

    def _around(self, cleared: Collection[Key]) -> set[Key]:
        """Return the setups before them whose teardown comes after them (or that have none), and those teardowns."""
        around: set[Key] = set()
        for name in {key.task_id for key in cleared}:
            keys = [key for key in cleared if key.task_id == name]
            for other in self._setups_around(name):
                found = (one for one in self._of_task(other) if one.key not in self._decided)
                around |= {one.key for one in found if any(self._graph.indexes_meet(one.key, key) for key in keys)}
        return around

    def _setups_around(self, task_id: str) -> Iterator[str]:
        after = self._graph.after(task_id)
        for name in self._graph.before(task_id):
            if self._graph.task(name).role == "setup":
                teardowns = {
                    other for other in self._graph.task(name).downstream if self._graph.task(other).role == "teardown"
                }
                if not teardowns or teardowns & after:
                    yield from {name, *teardowns}


class _Reached:
    """The instances that run again or follow one that does. One instance is enough for a task behind all of them."""

    def __init__(self, graph: Graph, begin: Collection[Key]) -> None:
        self._graph = graph
        self._keys = set(begin)
        self._tasks = {key.task_id for key in begin}

    def add(self, key: Key) -> None:
        self._keys.add(key)
        self._tasks.add(key.task_id)

    def by(self, key: Key) -> bool:
        """Return whether one of them comes directly before this instance."""
        return any(self._comes_before(name, key) for name in self._graph.upstream.get(key.task_id, []))

    def _comes_before(self, name: str, key: Key) -> bool:
        same = Key(name, key.map_index)
        if self._graph.indexes_meet(same._replace(map_index=key.map_index + 1), key):
            return name in self._tasks
        return same in self._keys or Key(name, -1) in self._keys


def _decided_during(decider: Instance, skip: datetime) -> bool:
    """Return whether the skip happened while the decider ran. A branch skips before it ends."""
    until = decider.at_work_until() if decider.state == "success" else None
    return bool(until and decider.started_at and decider.started_at <= skip <= until)


def _outcome(one: Instance, decided: Collection[Key]) -> str:
    if one.state in FAILED:
        return "failed"
    if one.state == "skipped":
        return "skipped" if one.key in decided else "cut off"
    return one.state


_Rule = Callable[[Mapping[str, int], int], bool]


def _any_skipped(count: Mapping[str, int], total: int) -> bool:
    return count["skipped"] > 0


def _all_skipped(count: Mapping[str, int], total: int) -> bool:
    return count["skipped"] == total


# When a trigger rule skips its task. Rules that are not here never do.
_SKIPS: dict[str, _Rule] = {
    "all_success": _any_skipped,
    "none_skipped": _any_skipped,
    TEARDOWN_RULE: _any_skipped,
    "all_failed": lambda count, total: count["success"] + count["skipped"] > 0,
    "all_skipped": lambda count, total: count["success"] + count["failed"] > 0,
    "one_failed": lambda count, total: count["success"] + count["skipped"] == total,
    "one_success": _all_skipped,
    "one_done": _all_skipped,
    "none_failed_min_one_success": _all_skipped,
    "all_done_min_one_success": _all_skipped,
}
# Rules for which a single task before is reason enough.
_ONE_IS_ENOUGH = frozenset({"all_success", "none_skipped", TEARDOWN_RULE, "all_failed", "all_skipped"})
