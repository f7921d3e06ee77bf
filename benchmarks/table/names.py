"""Names of the loaded rows. No Django: processes that only order others to work use them too."""

from __future__ import annotations

ADMIN, OWNER, FEW, NONE = "root", "ada", "few", "none"
NAMED = (ADMIN, OWNER, FEW, NONE)
BENCH_DAG = "bench"


def dag_name(number: int) -> str:
    return f"dag_{number:05}"


def user_name(number: int) -> str:
    return NAMED[number - 1] if number <= len(NAMED) else f"user{number}"


def owner_of(workflow: int, *, users: int) -> int:
    """Return the number of the user who owns the workflow with this number."""
    return len(NAMED) + 1 + workflow % (users - len(NAMED))


def owner_name(workflow: int, *, users: int) -> str:
    return user_name(owner_of(workflow, users=users))
