from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from workflows import services
from workflows.management.base import RunCommand
from workflows.states import RunState


class Command(RunCommand):
    help = "Stop a run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run_id")
        parser.add_argument("--note", default="")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = self.actor(options["user"])
        run = self.run_of(options["run_id"], actor)
        after = run.event_count
        run = services.stop_run(run=run, actor=actor, note=options["note"])
        self.finish(run, watch=options["watch"], after=after, expected=RunState.STOPPED)
