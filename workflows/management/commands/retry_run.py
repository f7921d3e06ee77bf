from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from workflows import services
from workflows.access import require_runner
from workflows.management.base import RunCommand


class Command(RunCommand):
    help = "Run tasks of an ended run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run_id")
        parser.add_argument("--mode", choices=services.RETRY_MODES, default="failed")
        parser.add_argument("--from-task", help="Only for --mode from_task: the task to begin at.")
        parser.add_argument("--map-index", type=int, help="Only for --mode from_task: one instance of a mapped task.")
        parser.add_argument("--dry-run", action="store_true", help="List what would run and change nothing.")
        parser.add_argument("--note", default="")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = self.actor(options["user"])
        run = self.run_of(options["run_id"], actor)
        what = {"run": run, "mode": options["mode"], "task_id": options["from_task"], "map_index": options["map_index"]}
        if options["dry_run"]:
            require_runner(run.workflow, actor)
            for task_id, map_index in services.preview_retry(**what):
                self.stdout.write(task_id if map_index < 0 else f"{task_id}[{map_index}]")
            return
        after = run.event_count
        run = services.retry_run(**what, actor=actor, note=options["note"])
        self.finish(run, watch=options["watch"], after=after)
