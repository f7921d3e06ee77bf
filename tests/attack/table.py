"""The plugin behind `make attack`: prints each attack with the figure before and now, and what others felt."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.attack.items import ITEMS, number_of

BEFORE = re.compile(r"Before:? (?P<before>.*?)(?: Now: (?P<now>.*))?$")
WIDTH = 160  # a table that is too wide is easier to read than one that is wrapped
NEIGHBOURS, COSTS = "check_neighbours.py", "check_costs.py"


@dataclass
class Attack:
    """One test function with all of its parameters."""

    name: str
    number: int
    before: str = ""
    said: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_s: float | None = None

    @property
    def now(self) -> str:
        if self.said:
            return self.said
        count = sum(self.outcomes.values())
        took = f"{self.cpu_s:.2f} s of CPU" if self.cpu_s is not None else f"{self.seconds:.1f} s"
        return f"{took}, {self.outcomes['passed']} of {count} held" if count > 1 else f"held, {took}"

    @property
    def verdict(self) -> str:
        if self.outcomes["failed"]:
            return "BROKEN"
        return "held" if self.outcomes["passed"] else "not run"


class Attacks:
    def __init__(self) -> None:
        self.attacks: dict[str, Attack] = {}
        self.floods: list[tuple[int, str, str, Any]] = []
        self.requests: dict[str, tuple[float, Counter[str]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self._note(item, report)
        return report

    def _note(self, item: pytest.Item, report: pytest.TestReport) -> None:
        from tests.attack.target import Target  # after the set-up of Django

        costs, Target.costs = Target.costs, []
        if NEIGHBOURS in item.nodeid:
            flood = item.callspec.params["flood"]  # type: ignore[attr-defined]
            number = item.module.FLOODS[flood]  # type: ignore[attr-defined]
            compared = dict(report.user_properties).get("compared")
            self.floods.append((number, inspect.getdoc(flood) or flood.__name__, report.outcome, compared))
            return
        if COSTS in item.nodeid:
            noted: dict[str, Any] = dict(report.user_properties)
            self.requests = noted.get("costs", {})
            return
        name = item.nodeid.partition("[")[0]
        attack = self.attacks.get(name)
        if attack is None:
            function = item.function  # type: ignore[attr-defined]
            said = BEFORE.search(" ".join((function.__doc__ or "").split()))
            before, now = (said["before"], said["now"] or "") if said else ("", "")
            attack = self.attacks[name] = Attack(_sentence(name), number_of(name) or 0, before, now)
        attack.outcomes[report.outcome] += 1
        attack.seconds += report.duration
        if costs:
            attack.cpu_s = (attack.cpu_s or 0.0) + sum(cost.cpu_s for cost in costs)

    def pytest_terminal_summary(self) -> None:
        console = Console(highlight=False, width=WIDTH)
        console.print()
        if self.attacks:
            console.print(_of_attacks(sorted(self.attacks.values(), key=lambda attack: attack.number)))
        if self.requests:
            console.print(_of_requests(self.requests))
        if self.floods:
            console.print(_of_floods(sorted(self.floods, key=lambda flood: flood[0])))
        missing = sorted(ITEMS.keys() - {attack.number for attack in self.attacks.values()})
        if self.attacks and missing:
            console.print("Without an attack in this run: " + ", ".join(f"{n} ({ITEMS[n]})" for n in missing))


def _sentence(name: str) -> str:
    return name.partition("::test_")[2].replace("_", " ")


def _of_attacks(attacks: list[Attack]) -> Table:
    table = Table("no.", "attack", "before", "now", "verdict", title="Attacks")
    for attack in attacks:
        if attack.number:
            table.add_row(str(attack.number), attack.name, attack.before or "-", attack.now, attack.verdict)
    return table


def _of_requests(costs: dict[str, tuple[float, Counter[str]]]) -> Table:
    table = Table("request", "CPU, ms", "answers", title="What one request costs a web process")
    for name, (milliseconds, statuses) in costs.items():
        table.add_row(name, f"{milliseconds:.1f}", ", ".join(f"{count} x {one}" for one, count in statuses.items()))
    return table


def _of_floods(floods: list[tuple[int, str, str, Any]]) -> Table:
    from tests.attack.neighbours.neighbour import ACTIONS

    names = [f"{action}, ms" for action in ACTIONS]
    title = "Others meanwhile: p95 in quiet → under attack (times as long, median of the pairs)"
    table = Table("no.", "flood", *names, "memory", "answers", "verdict", title=title)
    for number, words, outcome, compared in floods:
        cells = ["-"] * (len(ACTIONS) + 2)
        if compared is not None:
            cells = [
                f"{compared.p95_of(compared.quiet, action) * 1000:.0f} → "
                f"{compared.p95_of(compared.attacked, action) * 1000:.0f} ({compared.ratio(action):.2f})"
                for action in ACTIONS
            ]
            cells.append(f"{compared.memory_before:.0f} → {compared.memory_after:.0f} MB ({compared.memory:.2f})")
            answers = sum((Counter(one["statuses"]) for one in compared.sent), Counter[str]())
            cells.append(", ".join(f"{count} x {status}" for status, count in answers.most_common(4)) or "none")
        table.add_row(str(number), words, *cells, "held" if outcome == "passed" else "BROKEN")
    return table


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attack")
    group.addoption("--rounds", type=int, default=5, help="pairs of a quiet window and one under attack")
    group.addoption("--actions", type=int, default=12, help="of each kind in one window")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Attacks())
