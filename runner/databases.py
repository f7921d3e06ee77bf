"""The SQLite files of the embedded platform."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def is_prepared(file: Path, *, table: str) -> bool:
    """Return whether the table has rows. A process that runs on after its file was removed makes an empty one."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608 - our own name
    except sqlite3.Error:
        return False
