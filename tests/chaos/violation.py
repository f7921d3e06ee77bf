"""A promise that does not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One promise that does not hold. `run_id` is empty where it concerns no single run.

    Waiting does not mend a `lasting` one.
    """

    promise: str
    detail: str
    run_id: str = ""
    lasting: bool = False
