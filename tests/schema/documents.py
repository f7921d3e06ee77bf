"""Writes the descriptions of the API into a directory: `python -m tests.schema.documents DIRECTORY`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import django
from rest_framework.utils.encoders import JSONEncoder


def write(directory: Path) -> None:
    from svops.schema import openapi
    from workflows.api.asyncapi import asyncapi
    from workflows.api.event_schema import json_schema

    made = {
        "openapi": openapi(),
        "asyncapi": asyncapi(openapi()),
        "events": json_schema(openapi(), "/api/v1/events/schema"),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in made.items():
        (directory / f"{name}.json").write_text(json.dumps(document, cls=JSONEncoder, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")
    django.setup()
    write(Path(sys.argv[1]))
