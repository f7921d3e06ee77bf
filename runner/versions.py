"""Which Airflow the tests run on.

`SVOPS_TEST_AIRFLOW` is 3 (the locked one, the default), fab (the same with FAB), 2 (2.11) or a version.
"""

from __future__ import annotations

import os

VARIABLE = "SVOPS_TEST_AIRFLOW"


def _wanted() -> str:
    return os.environ.get(VARIABLE) or "3"


def tested_version() -> str | None:
    """Return the version, if it is neither of the two that are locked."""
    return _wanted() if "." in _wanted() else None


def is_airflow_2() -> bool:
    return _wanted().split(".")[0] == "2"


def is_fab() -> bool:
    """Return whether it is Airflow 3 with the FAB auth manager. 2.x always has FAB."""
    return _wanted() == "fab"


def is_before(*numbers: int) -> bool:
    """Return whether the Airflow of the tests is older than this version, such as 3, 1."""
    newest = {"2": (2, 11), "3": (3, 3), "fab": (3, 3)}
    given = newest.get(_wanted()) or tuple(int(part) for part in _wanted().split(".")[:2])
    return given < numbers
