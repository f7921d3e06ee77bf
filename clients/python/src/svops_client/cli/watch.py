"""The live view of a run: a tree of its tasks, and the end of the log of each that fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text
from rich.tree import Tree

from svops_client.cli import show
from svops_client.client import Run
from svops_client.envelope import Event
from svops_client.errors import ApiError

TAIL = 15


class Progress:
    """What is known of a run, as a tree that rich draws again and again."""

    def __init__(self, run: Run, task_ids: list[str]) -> None:
        self.run = run
        self.state: str = run.state
        self.tasks: dict[str, tuple[str, float | None]] = dict.fromkeys(task_ids, ("", None))
        self._began: dict[str, float] = {}
        self._first = time.monotonic()
        self._spinner = Spinner("dots")

    def take(self, event: Event) -> None:
        """Change the picture as the event says."""
        state = event.raw["data"].get("state")
        if event.type.startswith("workflow.") and state:
            self.state = state
        elif event.type.startswith("task.") and state:
            self.tasks[event.task] = (state, event.raw["data"].get("duration_s"))
            if event.type == "task.started":
                self._began[event.task] = time.monotonic()

    def __rich__(self) -> Tree:
        title = f"[bold]{escape(self.run.info.workflow_name)}[/bold]  {show.state(self.state)}  "
        tree = Tree(f"{title}{show.seconds(time.monotonic() - self._first)}  [dim]{self.run.id}[/dim]")
        for name, (state, duration) in self.tasks.items():
            tree.add(self._line(name, state, duration))
        return tree

    def _line(self, name: str, state: str, duration: float | None) -> Text:
        icon = show.ICONS.get(state, "·")
        if state == "running":
            icon = str(self._spinner.render(time.monotonic()))
            duration = time.monotonic() - self._began.get(name, self._first)
        shown = f"{show.seconds(duration)}" if duration is not None else ""
        colour = show.COLOURS.get(state, "bright_black")
        return Text.from_markup(f"[{colour}]{icon} {escape(name)}[/{colour}]  {escape(state)}  [dim]{shown}[/dim]")


def watch(run: Run, task_ids: list[str], *, timeout: float | None = None) -> Run:
    """Show a run until it has ended, and return it as it is then. Without a terminal, print a line for each event."""
    progress = Progress(run, task_ids)
    is_live = show.out.is_terminal
    with Live(progress, console=show.out, refresh_per_second=8) if is_live else nullcontext():
        for event in run.follow(timeout=timeout):
            progress.take(event)
            if not is_live:
                show.out.print(line_of(event))
            if event.type == "task.failed":
                _print_tail(run, event)
    return run.refresh()


def line_of(event: Event) -> str:
    """Return an event as one line."""
    state = event.raw["data"].get("state")
    words = [event.timestamp.astimezone().strftime("%H:%M:%S"), f"{event.type:<24}", escape(event.task)]
    reason = event.raw["data"].get("reason") or ""
    return " ".join([*words, show.state(state) if isinstance(state, str) else "", escape(reason)]).rstrip()


def _print_tail(run: Run, event: Event) -> None:
    show.out.print(f"[red]{escape(event.task)} has failed. The end of its log:[/red]")
    for text in _tail(run, event):
        show.out.print(f"  [dim]│[/dim] {escape(text)}")


def _tail(run: Run, event: Event) -> Iterator[str]:
    data = event.raw["data"]
    lines = run.logs(event.task_id, map_index=data["map_index"], try_number=data["try_number"], tail=TAIL)
    try:
        yield from (line.text for line in lines)
    except ApiError as exc:
        yield f"It cannot be read: {exc.detail}"
