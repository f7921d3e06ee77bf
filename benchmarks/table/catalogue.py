"""The rows, for the process that only orders them to be measured: they import the product, but touch no database."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import django

from benchmarks.table.row import Row
from benchmarks.table.workers import NOWHERE, Places


def read() -> tuple[Row, ...]:
    host = NOWHERE.removeprefix("http://")
    places = Places(
        database_url=f"postgresql://{host}/none", redis_url=f"redis://{host}", home=Path(tempfile.gettempdir())
    )
    os.environ |= places.environment(airflow_url=NOWHERE)
    django.setup()
    from benchmarks.rows import ROWS

    return ROWS
