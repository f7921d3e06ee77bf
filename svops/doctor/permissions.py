"""The rights that SVOps needs in an Airflow, and what an operator adds to give one, for each auth manager."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from workflows.airflow.probes import AuthManager


class Right(NamedTuple):
    """A right in the words of FAB: `can read on DAG Runs`."""

    action: str
    resource: str

    def __str__(self) -> str:
        return f"can {self.action} on {self.resource}"


READ_DAGS = Right("read", "DAGs")
READ_RUNS = Right("read", "DAG Runs")
READ_TASKS = Right("read", "Task Instances")
READ_LOGS = Right("read", "Task Logs")
READ_VERSIONS = Right("read", "DAG Versions")
READ_DEPENDENCIES = Right("read", "DAG Dependencies")
READ_ERRORS = Right("read", "ImportError")
READ_QUESTIONS = Right("read", "HITL Detail")
READ_RESULTS = Right("read", "XComs")
READ_AUDIT_LOG = Right("read", "Audit Logs")
READ_POOLS = Right("read", "Pools")
READ_PLUGINS = Right("read", "Plugins")
EDIT_DAGS = Right("edit", "DAGs")
CREATE_RUNS = Right("create", "DAG Runs")
EDIT_RUNS = Right("edit", "DAG Runs")
EDIT_TASKS = Right("edit", "Task Instances")

# The smallest role of FAB that has it. Each role has what the roles before it have.
ROLES = ("Viewer", "User", "Op", "Admin")
ROLE_WITH = {READ_PLUGINS: "Op", READ_AUDIT_LOG: "Admin"}
METHODS = {"read": "GET", "create": "POST", "edit": "PUT"}


def role_with(rights: Collection[Right]) -> str:
    """Return the smallest role of FAB that has all of these rights."""
    names = {ROLE_WITH.get(right, "Viewer" if right.action == "read" else "User") for right in rights}
    return max(names, key=ROLES.index)


def how_to_add(rights: Iterable[Right], manager: AuthManager) -> str:
    """Return what an operator does in Airflow to give SVOps' user these rights."""
    wanted = sorted(rights)
    if manager == AuthManager.SIMPLE:
        role = "viewer" if all(right.action == "read" for right in wanted) else "user"
        return f"Give SVOps' user the role `{role}` in [core] simple_auth_manager_users."
    names = ", ".join(f"`{right}`" for right in wanted)
    if manager == AuthManager.FAB:
        return f"Add {names} to a role of SVOps' user; of Airflow's roles, {role_with(wanted)} is the smallest with it."
    methods = ", ".join(f"{METHODS[right.action]} on {right.resource}" for right in wanted)
    return f"Allow SVOps' user {methods} (in FAB's words: {names})."


def missing(refused: Mapping[str, frozenset[Right]], allowed: Iterable[frozenset[Right]]) -> frozenset[Right]:
    """Return the fewest missing rights that explain all refusals. What an allowed request needs is not missing."""
    proven = frozenset[Right]().union(*allowed)
    unproven = {name: needs - proven for name, needs in refused.items()}
    to_explain = [needs for needs in unproven.values() if needs]
    suspects = sorted(frozenset[Right]().union(*to_explain))
    for size in range(1, min(len(suspects), 4) + 1):
        for some in combinations(suspects, size):
            if all(needs.intersection(some) for needs in to_explain):
                return frozenset(some)
    return frozenset(suspects)


def unknown(needs: Collection[Right], found: Collection[Right], allowed: Iterable[frozenset[Right]]) -> Sequence[Right]:
    """Return the rights that may be missing too: nothing that was allowed has shown them."""
    return sorted(set(needs) - set(found) - frozenset[Right]().union(*allowed))
