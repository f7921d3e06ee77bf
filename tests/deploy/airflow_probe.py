"""Finds the commands and variables that this Airflow does not know. Runs under Airflow's Python; JSON in and out."""

import contextlib
import io
import json
import sys

from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf


def parses(argv: list[str]) -> bool:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            get_parser().parse_args(argv)
    except SystemExit:
        return False
    return True


def is_option(name: str) -> bool:
    _, section, key = name.split("__")
    return key.lower() in conf.configuration_description.get(section.lower(), {}).get("options", {})


asked = json.load(sys.stdin)
answer = {
    "commands": [argv for argv in asked["commands"] if not parses(argv)],
    "variables": [name for name in asked["variables"] if not is_option(name)],
}
sys.stdout.write(f"ANSWER {json.dumps(answer)}\n")
