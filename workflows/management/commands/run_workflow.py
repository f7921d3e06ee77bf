from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandError

from workflows import services
from workflows.management.base import RunCommand
from workflows.models import DataInterval, TriggerType


class Command(RunCommand):
    help = "Trigger a run of a workflow; --watch follows it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workflow", help="The name of the workflow, its dag_id or its id.")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A parameter. The value is read as JSON if it is JSON, else as text. Can be repeated.",
        )
        parser.add_argument("--note", default="")
        parser.add_argument(
            "--logical-date",
            type=_moment,
            metavar="TIME",
            help="Airflow's date of the run, for {{ ds }}, with its time zone.",
        )
        parser.add_argument(
            "--data-interval",
            type=_moment,
            nargs=2,
            metavar=("START", "END"),
            help="The time whose data the run handles; only with --logical-date.",
        )
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = self.actor(options["user"])
        run = services.trigger_run(
            workflow=self.workflow(options["workflow"], actor),
            user=actor,
            trigger_type=TriggerType.COMMAND,
            request=services.RunRequest(
                parameters=dict(_parameter(text) for text in options["param"]),
                note=options["note"],
                logical_date=options["logical_date"],
                data_interval=options["data_interval"] and DataInterval(*options["data_interval"]),
            ),
        )
        self.finish(run, watch=options["watch"])


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ArgumentTypeError(f"{text!r} is not an ISO 8601 time") from exc
    if moment.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} must name its time zone, such as 2026-11-28T14:00:00Z")
    return moment.astimezone(UTC)


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--param {text!r}: expected NAME=VALUE.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
