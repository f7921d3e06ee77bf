"""Base of the commands on runs: finds objects by what people type, and follows a run in the terminal."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from accounts.models import Role, User
from rest.errors import InvalidInputError, SVOpsError
from workflows.models import Airflow, Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import TASK_TERMINAL, RunState
from workflows.watch import poll

POLL = 0.3  # seconds between two reads of the event log


class RunCommand(BaseCommand):
    """Adds `--user` and `--watch`, and shows an error of a service as one sentence."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", help="Act as this user (default: the first admin).")
        parser.add_argument("--watch", action="store_true", help="Follow the run until it has ended.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except InvalidInputError as exc:
            lines = [f"{field}: {' '.join(messages)}" for field, messages in exc.errors.items()]
            raise CommandError("\n".join([str(exc), *lines])) from exc
        except SVOpsError as exc:
            raise CommandError(str(exc)) from exc

    def actor(self, username: str | None) -> User:
        users = User.objects.filter(username=username) if username else User.objects.filter(role=Role.ADMIN)
        user = users.order_by("id").first()
        if user is None:
            raise CommandError(f"There is no user {username}." if username else "There is no admin: run ensure_admin.")
        return user

    def workflow(self, name_or_id: str, actor: User) -> Workflow:
        alive = Workflow.objects.visible_to(actor).select_related("dag")
        found = list(alive.filter(name=name_or_id) or alive.filter(dag__dag_id=name_or_id))
        if not found and name_or_id.isdecimal():
            found = list(alive.filter(pk=int(name_or_id)))
        if not found:
            names = ", ".join(alive.values_list("name", flat=True)[:20]) or "none"
            raise CommandError(f"There is no workflow {name_or_id!r}. The workflows are: {names}.")
        if len(found) > 1:
            ids = ", ".join(_id_of(workflow) for workflow in found)
            raise CommandError(f"Several workflows match {name_or_id!r}. Use an id: {ids}.")
        return found[0]

    def run_of(self, run_id: str, actor: User) -> Run:
        try:
            return Run.objects.visible_to(actor).select_related("workflow").get(pk=UUID(run_id))
        except ValueError as exc:
            raise CommandError(f"{run_id!r} is not a run id: expected a UUID.") from exc
        except Run.DoesNotExist as exc:
            raise CommandError(f"There is no run {run_id}.") from exc

    def finish(self, run: Run, *, watch: bool, after: int = 0, expected: RunState = RunState.SUCCESS) -> None:
        """Print the state of the run, or follow it; a followed run must end in the state `expected`."""
        if watch:
            run = self._follow(run, after=after)
        self.stdout.write(f"{run.pk} {run.state}")
        if watch and run.state != expected:
            raise CommandError(run.state_reason or f"The run is {run.state}.")

    def _follow(self, run: Run, *, after: int) -> Run:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} tasks"))
        with Progress(*columns, TimeElapsedColumn(), console=Console()) as progress:
            bar = progress.add_task(run.workflow.name, total=None)
            for event in _events_until_end(run, after=after):
                name = event.task_id or run.workflow.name
                progress.print(f"{event.timestamp:%H:%M:%S} {event.type:<28} {name}", highlight=False)
                states = list(run.tasks.values_list("state", flat=True))
                done = sum(state in TASK_TERMINAL for state in states)
                progress.update(bar, total=len(states) or None, completed=done)
        run.refresh_from_db()
        return run


def _id_of(workflow: Workflow) -> str:
    airflow = workflow.dag.airflow_name
    return str(workflow.pk) if airflow == DEFAULT else f"{workflow.pk} (in the Airflow {airflow})"


def add_airflow(parser: CommandParser) -> None:
    parser.add_argument("--airflow", default=DEFAULT, metavar="NAME", help="Which Airflow (by default: default).")


def named_airflow(options: Mapping[str, Any]) -> str:
    """Return the name of the Airflow that the command is about. Raises `CommandError` if there is none."""
    name = str(options["airflow"])
    if name != DEFAULT and not Airflow.objects.active().filter(name=name).exists():
        names = ", ".join(Airflow.objects.active().values_list("name", flat=True))
        raise CommandError(f"There is no active Airflow {name!r}. There is: {names or DEFAULT}.")
    return name


def _events_until_end(run: Run, *, after: int) -> Iterator[Event]:
    """Yield the run's events after the seq `after`, as they come. Polls Airflow itself if no worker does."""
    while True:
        run.refresh_from_db()
        ended = run.is_terminal
        for event in run.events.filter(seq__gt=after).order_by("seq"):
            after = event.seq or after
            yield event
        if ended:
            return
        poll.tick_if_no_worker_does(run.airflow_name)
        time.sleep(POLL)
