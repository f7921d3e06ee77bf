"""Summarises the windows: medians, ratios within a round, and the tables of docs/benchmarks.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks.live.progress import percentile_ms
from benchmarks.live.servers import OURS
from benchmarks.live.stand import Stand, Window


@dataclass
class Results:
    clients: int
    saturated: dict[str, list[Window]] = field(default_factory=lambda: defaultdict(list))
    loaded: dict[str, list[Window]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add_saturated(self, name: str, window: Window) -> None:
        self.saturated[name].append(window)

    def add_loaded(self, name: str, window: Window) -> None:
        self.loaded[name].append(window)

    def add_end(self, stand: Stand) -> None:
        self.memory[stand.server.name] = stand.memory_per_client
        if problem := stand.problem():
            self.problems[stand.server.name] = problem

    def median_rate(self, name: str) -> float:
        return median(window.rate for window in self.saturated[name])


def markdown(results: Results) -> str:
    parts = [_servers(results), _ratios(results), _problems(results)]
    return "\n\n".join(part for part in parts if part)


def _servers(results: Results) -> str:
    head = [
        "server",
        "deliveries/s",
        "server CPU µs per delivery",
        "events per message",
        "CPU of server / load client / publisher",
        "events/s at half",
        "p50 / p95 latency at half, ms",
        "memory per idle client, KB",
    ]
    return f"{results.clients} clients.\n\n" + _table(head, (_row(results, name) for name in results.saturated))


def _row(results: Results, name: str) -> Iterator[str]:
    windows, loaded = results.saturated[name], results.loaded[name]
    yield name
    yield f"{results.median_rate(name):,.0f}"
    yield f"{_cpu_per_delivery(windows):.2f}"
    yield f"{sum(w.counted.deliveries for w in windows) / max(1, sum(w.counted.messages for w in windows)):.1f}"
    seconds = sum(window.seconds for window in windows)
    shares = (sum(getattr(w, f"{who}_cpu") for w in windows) / seconds for who in ("server", "load", "publisher"))
    yield " / ".join(f"{share:.0%}" for share in shares)
    yield f"{sum(w.rate for w in loaded) / len(loaded) / results.clients:,.1f}"
    latency = tuple(map(sum, zip(*(window.counted.latency for window in loaded), strict=True)))
    yield f"{percentile_ms(latency, 0.5):.1f} / {percentile_ms(latency, 0.95):.1f}"
    yield f"{results.memory[name] / 1024:.1f}"


def _cpu_per_delivery(windows: Sequence[Window]) -> float:
    return sum(w.server_cpu for w in windows) / max(1, sum(w.counted.deliveries for w in windows)) * 1e6


def _ratios(results: Results) -> str:
    """Return the ratios of SVOps to each other server, taken round by round."""
    if OURS not in results.saturated:
        return ""
    head = ["SVOps (uvicorn) against", "deliveries/s: median (quartiles)", "CPU per delivery", "p95 at half", "memory"]
    others = (name for name in results.saturated if name != OURS)
    return _table(head, (_ratio_row(results, name) for name in others))


def _ratio_row(results: Results, name: str) -> Iterator[str]:
    ours, theirs = results.saturated[OURS], results.saturated[name]
    ratios = [a.rate / max(b.rate, 1e-9) for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    yield name
    yield f"{middle:.3g} ({low:.3g} to {high:.3g})"
    yield f"1 / {_cpu_per_delivery(theirs) / _cpu_per_delivery(ours):.3g}"
    yield f"{_p95(results.loaded[OURS]) / _p95(results.loaded[name]):.2f}"
    yield f"{results.memory[OURS] / results.memory[name]:.2f}"


def _p95(windows: Sequence[Window]) -> float:
    return percentile_ms(tuple(map(sum, zip(*(w.counted.latency for w in windows), strict=True))), 0.95)


def _problems(results: Results) -> str:
    if not results.problems:
        return "No client of any server missed an event or saw one twice or out of order."
    return "\n".join(f"NOT VALID, {name}: {problem}" for name, problem in results.problems.items())


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] + ["--:"] * (len(head) - 1), *map(list, rows))]
    return "\n".join(lines)
