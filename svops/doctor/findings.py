"""What a check has found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rest.masking import mask
from workflows.naming import DEFAULT


class Outcome(StrEnum):
    WORKS = "works"
    MISSING = "missing right"
    WRONG = "wrong"
    ABSENT = "not there"  # not a fault: this version or this set-up does not have it
    UNTRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row. `needed` says whether SVOps needs it; without, it does less. `mend` says what to do.

    `airflow` names the Airflow that it is about, if it is about one.
    """

    part: str
    airflow: str = ""
    check: str
    outcome: Outcome
    found: str = ""
    mend: str = ""
    needed: bool = True
    ms: float | None = None

    @property
    def is_problem(self) -> bool:
        return self.needed and self.outcome in {Outcome.MISSING, Outcome.WRONG}

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "found": mask(self.found), "mend": mask(self.mend), "problem": self.is_problem}


def grouped(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the rows under the title of each part. It names the Airflow only if that is not the default one alone."""
    rows = list(findings)
    is_one = {row.airflow for row in rows if row.airflow} <= {DEFAULT}
    parts: dict[str, list[Finding]] = {}
    for row in rows:
        parts.setdefault(row.part if is_one or not row.airflow else f"{row.part} {row.airflow}", []).append(row)
    return parts


def called(option: str, airflow: str) -> str:
    """Return how an operator calls an option of the way to this Airflow."""
    if airflow != DEFAULT:
        return f"`{option}` of {airflow}"
    return "SVOPS_INGEST_SECRET" if option == "ingest_secret" else f"AIRFLOW_{option.upper()}"


class Faulty(Exception):  # noqa: N818 - an outcome, not an error of ours
    """What a check has found is wrong. `str()` says what, and `mend` what to do."""

    def __init__(self, found: str, mend: str = "", *, outcome: Outcome = Outcome.WRONG) -> None:
        super().__init__(found)
        self.mend = mend
        self.outcome = outcome


# Is called with the name of each check before it begins.
Progress = Callable[[str], None]


@dataclass
class Watch:
    ms: float = 0.0


@contextmanager
def timed() -> Iterator[Watch]:
    watch = Watch()
    began = time.perf_counter()
    try:
        yield watch
    finally:
        watch.ms = round((time.perf_counter() - began) * 1000, 1)
