"""The checks of an Airflow: whether it answers, what it is, what it lets SVOps do, and whether it has our DAGs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from django.conf import settings

from svops.doctor import permissions
from svops.doctor.calls import CALLS, Asked, Call
from svops.doctor.findings import Finding, Outcome, Progress, called, timed
from svops.doctor.permissions import Right
from workflows.airflow import Access, AirflowClient
from workflows.airflow.access import kind_of
from workflows.airflow.errors import (
    AirflowAuthError,
    AirflowConflictError,
    AirflowError,
    AirflowForbiddenError,
    AirflowLimitError,
    AirflowNotFoundError,
    AirflowUnavailableError,
)
from workflows.airflow.probes import AuthManager
from workflows.airflow.types import Dag, UnreadableDag
from workflows.models import Workflow
from workflows.naming import DEFAULT

PART = "Airflow"
# Versions that `make test-airflow` was run with: docs/doctor.md.
OLDEST, NEWEST = (2, 10), (3, 3)
EXAMPLES = Path(__file__).resolve().parents[2] / "dags"
MOST_DAGS = 100
# Used if no DAG can be seen: whether a right on all DAGs is there shows all the same.
NO_DAG = "svops_doctor"


@dataclass(frozen=True, kw_only=True)
class Airflow:
    """What is known of an Airflow that answers."""

    client: AirflowClient
    auth: str
    version: str
    manager: AuthManager
    dags: Sequence[Dag | UnreadableDag] = ()

    @property
    def name(self) -> str:
        return self.client.name

    @property
    def is_first_api(self) -> bool:
        return self.version.startswith("2.")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a call. `refused` says that a right is missing."""

    call: Call
    ms: float
    refused: bool = False
    credentials_refused: bool = False
    silent: bool = False
    absent: bool = False
    limited: bool = False
    wrong: str = ""

    @property
    def is_allowed(self) -> bool:
        return not (self.refused or self.credentials_refused or self.silent or self.absent or self.wrong)


def up(airflow: str) -> str:
    return f"Start Airflow, or mend {called('url', airflow)} and the network between."


def _credentials(airflow: str) -> str:
    way = called("auth", airflow)
    return f"Mend the credentials of {way} (docs/airflows.md), or give SVOps' user a role in Airflow."


def reach(client: AirflowClient, access: Access) -> tuple[Airflow | None, list[Finding]]:
    """Find out whether it answers and what it is. Without an answer, nothing else of it can be tried."""
    with timed() as watch:
        try:
            version, error = client.version(), ""
            manager = client.probes.auth_manager()
        except AirflowAuthError as exc:
            return None, [_finding("sign in", Outcome.WRONG, str(exc), _credentials(client.name), ms=watch.ms)]
        except AirflowError as exc:
            error = str(exc)
    if error:
        return None, [_finding("answer", Outcome.WRONG, error, up(client.name), ms=watch.ms)]
    airflow = Airflow(client=client, auth=kind_of(access.way), version=version, manager=manager)
    return airflow, [
        _finding("answer", Outcome.WORKS, access.base_url, ms=watch.ms),
        _of_version(version),
        _finding("auth manager", Outcome.WORKS, str(manager)),
    ]


def _of_version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        return _finding("version", Outcome.WRONG, f"{version} is older than {_dotted(OLDEST)}", "Upgrade Airflow.")
    newer = f", newer than {_dotted(NEWEST)}, the newest that was tried" if numbers > NEWEST else ""
    return _finding("version", Outcome.WORKS, f"{version}{newer}")


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


def clock(client: AirflowClient) -> Finding:
    """Compare the clocks. Polls bridge a difference up to `RECONCILE_OVERLAP`."""
    with timed() as watch:
        ahead = client.probes.clock_ahead()
    if ahead is None:
        return _finding("clock", Outcome.UNTRIED, "its answers have no date", ms=watch.ms)
    limit = timedelta(seconds=settings.RECONCILE_OVERLAP)
    seconds = ahead.total_seconds()
    if abs(ahead) <= limit:
        found = f"{abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}, to about a second"
        return _finding("clock", Outcome.WORKS, found, ms=watch.ms)
    found = f"Airflow's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours: changes get lost"
    mend = f"Set both clocks by NTP, or raise RECONCILE_OVERLAP, which is {settings.RECONCILE_OVERLAP:g} s."
    return _finding("clock", Outcome.WRONG, found, mend, ms=watch.ms)


def health(client: AirflowClient) -> Finding:
    with timed() as watch:
        seen = client.health()
    parts = {
        "metadata database": seen.metadatabase,
        "scheduler": seen.scheduler,
        "DAG processor": seen.dag_processor,
        "triggerer": seen.triggerer,
    }
    # A part that this version or set-up does not have has no status.
    sick = [name for name, part in parts.items() if part and part.status not in {None, "healthy"}]
    if not sick:
        return _finding("health", Outcome.WORKS, "all of its parts are healthy", ms=watch.ms)
    only_waits = sick == ["triggerer"]
    found = f"not healthy: {', '.join(sick)}" + ("; deferred tasks do not go on" if only_waits else "")
    return _finding("health", Outcome.WRONG, found, f"Start its {sick[0]}.", needed=not only_waits, ms=watch.ms)


def calls(airflow: Airflow, asked: Asked, progress: Progress) -> list[Finding]:
    """Try every call, and say which rights are missing. After a call without an answer the rest is not tried."""
    tried: list[Tried] = []
    for call in CALLS:
        if tried and tried[-1].silent:
            break
        progress(call.name)
        tried.append(_try(call, asked))
    return list(_judged(tried, airflow))


def _try(call: Call, asked: Asked) -> Tried:
    outcome = Tried(call=call, ms=0)
    with timed() as watch:
        try:
            call.ask(asked)
        except AirflowNotFoundError:
            outcome = replace(outcome, absent=bool(call.lacking))
        except AirflowConflictError:
            pass  # it may do this, but not now
        except (AirflowForbiddenError, AirflowAuthError) as exc:
            is_right = exc.status == HTTPStatus.FORBIDDEN
            outcome = replace(
                outcome, refused=is_right, credentials_refused=not is_right, wrong="" if is_right else str(exc)
            )
        except AirflowUnavailableError as exc:
            outcome = replace(outcome, silent=exc.status is None, wrong=str(exc))
        except AirflowLimitError as exc:
            outcome = replace(outcome, limited=True, wrong=str(exc))
        except AirflowError as exc:
            outcome = replace(outcome, wrong=str(exc))
    return replace(outcome, ms=watch.ms)


def _judged(tried: Sequence[Tried], airflow: Airflow) -> Iterator[Finding]:
    refusals = [one for one in tried if one.refused or one.credentials_refused]
    if refusals and not any(one.is_allowed for one in tried):
        found = refusals[0].wrong or "Airflow refuses everything: wrong credentials, or a user without any role"
        yield _finding("sign in", Outcome.WRONG, found, _credentials(airflow.name))
        return
    variable = "AIRFLOW_AUTH" if airflow.name == DEFAULT else "auth"
    yield _finding("sign in", Outcome.WORKS, f"by {variable}={airflow.auth}")
    allowed = [_needs(one.call, airflow) for one in tried if one.is_allowed]
    refused = {one.call.name: _needs(one.call, airflow) for one in tried if one.refused}
    missing = permissions.missing(refused, allowed)
    for one in tried:
        yield _row(one, airflow, missing, allowed)
    for call in CALLS[len(tried) :]:
        yield _finding(call.name, Outcome.UNTRIED, "Airflow did not answer the call before", needed=not call.without)


def _needs(call: Call, airflow: Airflow) -> frozenset[Right]:
    return call.rights(is_first_api=airflow.is_first_api)


def _row(one: Tried, airflow: Airflow, missing: frozenset[Right], allowed: Sequence[frozenset[Right]]) -> Finding:
    call, needed = one.call, not one.call.without
    if one.refused:
        return _lack(one, airflow, missing, allowed)
    if one.absent:
        return _finding(call.name, Outcome.ABSENT, call.lacking, needed=False, ms=one.ms)
    if one.wrong:
        mend = up(airflow.name) if one.silent else "Read the log of Airflow's API server."
        if one.limited:
            mend = f"Only the web server gives it: {called('mwaa_method', airflow.name)} can be `web_token`."
        return _finding(call.name, Outcome.WRONG, one.wrong, mend, needed=needed, ms=one.ms)
    return _finding(call.name, Outcome.WORKS, needed=needed, ms=one.ms)


def _lack(one: Tried, airflow: Airflow, missing: frozenset[Right], allowed: Sequence[frozenset[Right]]) -> Finding:
    call = one.call
    needs = _needs(call, airflow)
    mine = sorted(needs & missing)
    if not mine:
        # The right is there for other DAGs.
        found = "refused for this DAG, and allowed for others"
        mend = "Give SVOps' user the right on this DAG."
        return _finding(call.name, Outcome.MISSING, found, mend, needed=not call.without, ms=one.ms)
    words = f"{', '.join(str(right) for right in mine)}"
    others = permissions.unknown(needs, mine, allowed)
    more = f" Whether {', '.join(str(right) for right in others)} is there shows then." if others else ""
    without = f" Without it: {call.without}" if call.without else ""
    found = words if airflow.manager != AuthManager.SIMPLE else _role(mine)
    mend = f"{permissions.how_to_add(mine, airflow.manager)}{more if airflow.manager != AuthManager.SIMPLE else ''}"
    return _finding(call.name, Outcome.MISSING, found, f"{mend}{without}", needed=not call.without, ms=one.ms)


def _role(rights: Sequence[Right]) -> str:
    return "the role viewer" if all(right.action == "read" for right in rights) else "the role user"


def dags_of_workflows(airflow: Airflow, progress: Progress) -> Iterator[Finding]:
    """Say which DAGs of workflows Airflow does not show us, and which it does not let us run."""
    its = Workflow.objects.alive().filter(dag__airflow__name=airflow.name)
    names = its.order_by("dag__dag_id").values_list("dag__dag_id", flat=True).distinct()
    dag_ids = list(names[: MOST_DAGS + 1])
    shown = {dag.dag_id for dag in airflow.dags}
    hidden = [dag_id for dag_id in dag_ids if dag_id not in shown]
    for dag_id in hidden[:10]:
        mend = f"Give SVOps' user `can read on DAG:{dag_id}`, bring the DAG back, or delete its workflows."
        yield _finding(f"DAG {dag_id}", Outcome.WRONG, "a workflow is over it, and Airflow does not show it", mend)
    refused = []
    for dag_id in [dag_id for dag_id in dag_ids if dag_id in shown][:MOST_DAGS]:
        progress(f"DAG {dag_id}")
        try:
            airflow.client.probes.trigger(dag_id)
        except AirflowForbiddenError:
            refused.append(dag_id)
            mend = f"Give SVOps' user `can edit on DAG:{dag_id}` and `{permissions.CREATE_RUNS}`."
            yield _finding(f"DAG {dag_id}", Outcome.MISSING, "SVOps' user may not run it", mend)
    if not hidden and not refused:
        count = f"{len(dag_ids)} DAGs" if len(dag_ids) <= MOST_DAGS else f"the first {MOST_DAGS} DAGs"
        found = f"SVOps' user may see and run {count}" if dag_ids else "there is no workflow yet"
        yield _finding("DAGs of workflows", Outcome.WORKS, found)


def folder(airflow: Airflow, errors: Mapping[str, str]) -> Finding:
    """Say whether Airflow reads the folder `dags` here, by the example files in it. `errors` are those of DAG files."""
    here = {path.name for path in EXAMPLES.glob("*.py")}
    there = {Path(dag.fileloc).name for dag in airflow.dags if isinstance(dag, Dag)}
    broken = sorted(here & {Path(name).name for name in errors})
    if broken:
        found = f"Airflow cannot import {', '.join(broken)}"
        return _finding("DAG folder", Outcome.WRONG, found, "Read the import error in Airflow.", needed=False)
    if here <= there:
        return _finding("DAG folder", Outcome.WORKS, f"Airflow has all {len(here)} example DAGs of {EXAMPLES.name}/")
    if not here & there:
        return _finding("DAG folder", Outcome.ABSENT, "Airflow has DAGs of its own, not the examples", needed=False)
    found = f"Airflow lacks {', '.join(sorted(here - there))}"
    return _finding("DAG folder", Outcome.WRONG, found, "Give Airflow the same folder.", needed=False)


def _finding(
    check: str, outcome: Outcome, found: str = "", mend: str = "", *, needed: bool = True, ms: float | None = None
) -> Finding:
    return Finding(part=PART, check=check, outcome=outcome, found=found, mend=mend, needed=needed, ms=ms)
