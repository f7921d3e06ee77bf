from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workflows import services
from workflows.management.base import RunCommand
from workflows.models import TriggerType


class Command(RunCommand):
    help = "Trigger a run of a workflow, and follow it with --watch."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workflow", help="Its name, its DAG's id or its own id.")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A parameter; the value is read as JSON where it is JSON, else as text. May be repeated.",
        )
        parser.add_argument("--note", default="")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        run = services.trigger_run(
            workflow=self.workflow(options["workflow"]),
            user=self.actor(options["user"]),
            trigger_type=TriggerType.COMMAND,
            given=dict(_parameter(text) for text in options["param"]),
            note=options["note"],
        )
        self.finish(run, watch=options["watch"])


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--param {text!r}: expected NAME=VALUE.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
