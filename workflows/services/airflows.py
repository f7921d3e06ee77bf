"""The Airflows behind SVOps: add, change, drain and delete them. Only admins get here, or an operator's file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import UNBOUNDED
from rest.errors import ConflictError, InvalidInputError, NotAllowedError
from rest.sealing import UnsealableError, seal, unseal
from workflows import options as ways
from workflows import way_in
from workflows.airflow.access import GOOGLE, MWAA, OAUTH2, PASSWORD
from workflows.dagrules import DagRule
from workflows.eventlog import publication
from workflows.models import Airflow, AirflowCommand, Dag, DagFileError, Run, Workflow
from workflows.naming import DEFAULT, EXPECTED, LONGEST_NAME, PATTERN
from workflows.services.errors import AirflowInUseError

if TYPE_CHECKING:
    from accounts.models import User

BY_FILE = "AIRFLOWS_FILE describes this Airflow, or did"
TAKEN = "There is already an Airflow with this name."
# What the options of these ways begin with. Their defaults say nothing of another way.
OTHER_WAYS = frozenset({OAUTH2, GOOGLE, MWAA})
BY_SETTINGS = "The way to the default Airflow is that of the settings AIRFLOW_…: change it there."
# None takes an option away.
Options = Mapping[str, Any]


@transaction.atomic
def create_airflow(
    *, actor: User | None, name: str, options: Options, is_active: bool = True, from_file: bool = False
) -> Airflow:
    """Add an Airflow. `from_file` is for an operator's file: without an actor, and with options that read files.

    Raises `InvalidInputError` with what was expected of each field.
    """
    _require_admin(actor, from_file=from_file)
    after = _checked(name, {option: value for option, value in options.items() if value is not None}, from_file)
    # Every other one stands beside the default one.
    Airflow.default()
    airflow = Airflow(name=name, is_active=is_active, from_file=from_file)
    _set_options(airflow, after)
    try:
        with transaction.atomic():
            airflow.save()
    except IntegrityError as exc:
        raise InvalidInputError({"name": [TAKEN]}) from exc
    transaction.on_commit(lambda: way_in.forget(airflow.name))
    audit.record("airflow.added", airflow, after=_facts(airflow, after), actor=actor)
    return airflow


@transaction.atomic
def change_airflow(
    *,
    actor: User | None,
    airflow: Airflow,
    options: Options | None = None,
    is_active: bool | None = None,
    drained: bool | None = None,
    from_file: bool = False,
) -> Airflow:
    """Change options, whether anything is asked of it, or whether it takes new runs (`drain_airflow`).

    Options that are not given stay; None takes one away.

    An operator's file gives all of them instead, and from then on nobody else does. A secret stays only where it was
    sent before: with another address, it is given anew. Raises as `create_airflow` does, and `ConflictError`.
    """
    _require_admin(actor, from_file=from_file)
    airflow = Airflow.objects.select_for_update().get(pk=airflow.pk)
    if options is None and is_active is None:
        return airflow if drained is None else _set_drained(airflow, drained, actor)
    if airflow.from_file and not from_file:
        raise ConflictError(f"{BY_FILE}: change it there.")
    if options is not None and airflow.is_default:
        raise InvalidInputError({name: [BY_SETTINGS] for name in options or ["options"]})
    before = options_of(airflow)
    facts = _facts(airflow, before)
    airflow.is_active = airflow.is_active if is_active is None else is_active
    after = before
    if options is not None:
        after = _merged(before, options, from_file=from_file)
        _set_options(airflow, after)
    airflow.from_file = from_file
    if after != before or facts != _facts(airflow, after):
        # Not the state: a worker writes it at the same time.
        airflow.save(update_fields=["options", "secrets", "is_active", "from_file"])
        transaction.on_commit(lambda: way_in.forget(airflow.name))
        old, new = audit.changes(facts, _facts(airflow, after))
        if changed := sorted(name for name in ways.SECRET if before.get(name) != after.get(name)):
            new["changed_secrets"] = changed
        audit.record("airflow.changed", airflow, before=old, after=new, actor=actor)
    return airflow if drained is None else _set_drained(airflow, drained, actor)


def _checked(name: str, options: Options, from_file: bool) -> dict[str, Any]:
    """Return the checked options of a new Airflow. Raises `InvalidInputError` with all that is wrong."""
    wrong = _wrong_name(name)
    errors: dict[str, list[str]] = {"name": [wrong]} if wrong else {}
    after: dict[str, Any] = {}
    try:
        after = ways.checked(options, from_file=from_file)
        ways.check_together(after)
    except InvalidInputError as exc:
        errors |= exc.errors
    if errors:
        raise InvalidInputError(errors)
    return after


def _wrong_name(name: str) -> str:
    if len(name) > LONGEST_NAME or not re.fullmatch(PATTERN, name):
        return f"{EXPECTED[:-1]}, at most {LONGEST_NAME} characters."
    return TAKEN if name == DEFAULT or Airflow.objects.filter(name=name).exists() else ""


def _merged(before: Options, options: Options, *, from_file: bool) -> dict[str, Any]:
    given = ways.checked({name: value for name, value in options.items() if value is not None}, from_file=from_file)
    if from_file:
        after = given
    else:
        if unknown := sorted(options.keys() - ways.TABLE.keys()):
            ways.checked(dict.fromkeys(unknown), from_file=False)
        after = {name: value for name, value in {**before, **options, **given}.items() if value is not None}
        ways.check_secrets_stay(before, after, options)
    ways.check_together(after)
    return after


@transaction.atomic
def delete_airflow(*, actor: User | None, airflow: Airflow, from_file: bool = False) -> None:
    """Forget an Airflow, with its DAGs as SVOps mirrors them, their errors, and the DAG rules that name it.

    Raises `AirflowInUseError` while there are workflows or runs on it, `ConflictError` for the default one, for one
    that a worker works on, and for one that an operator's file describes.
    """
    _require_admin(actor, from_file=from_file)
    airflow = Airflow.objects.select_for_update().get(pk=airflow.pk)
    if airflow.is_default:
        raise ConflictError("The default Airflow cannot be deleted. It can be drained.")
    if airflow.from_file and airflow.is_active:
        raise ConflictError(f"{BY_FILE}: take it out there first.")
    # Whoever wants a lease from now on waits for this transaction, and then finds no row.
    if _is_worked_on(airflow):
        raise ConflictError("A worker polls it, dispatches to it, or syncs its DAGs. Try again.")
    counts = {
        "workflows": Workflow.objects.filter(dag__airflow__name=airflow.name).count(),
        "runs": Run.objects.filter(airflow__name=airflow.name).count(),
    }
    if any(counts.values()):
        raise AirflowInUseError(
            f"{counts['workflows']} workflows, deleted ones among them, and {counts['runs']} runs are on it. "
            "Move the workflows, or set is_active to false.",
            extra=counts,
        )
    audit.record("airflow.deleted", airflow, before=_facts(airflow, options_of(airflow)), actor=actor)
    for model in (AirflowCommand, DagFileError, Dag):
        model.objects.filter(airflow__name=airflow.name).delete()
    # Otherwise the next one of this name would inherit them.
    rules = DagRule.objects.filter(airflow=airflow.name)
    audit.record_all("dag_rule.withdrawn", [audit.Act(obj=rule) for rule in rules], actor=actor)
    rules.delete()
    airflow.delete()
    transaction.on_commit(lambda: way_in.forget(airflow.name))
    transaction.on_commit(publication.send_rights_changed, robust=True)


def _is_worked_on(airflow: Airflow) -> bool:
    leases = (airflow.leased_until, airflow.dags_leased_until, airflow.dispatch_leased_until)
    return any(until and until > timezone.now() for until in leases)


@transaction.atomic
def drain_airflow(*, actor: User | None, airflow: Airflow, drained: bool = True) -> Airflow:
    """Let an Airflow take no new runs, or undrain it. The runs that are accepted go on to their end."""
    _require_admin(actor, from_file=False)
    return _set_drained(Airflow.objects.select_for_update().get(pk=airflow.pk), drained, actor)


def _set_drained(airflow: Airflow, drained: bool, actor: User | None) -> Airflow:
    if airflow.is_drained == drained:
        return airflow
    before = {"drained_at": airflow.drained_at}
    airflow.drained_at, airflow.emptied_at = timezone.now() if drained else None, None
    airflow.save(update_fields=["drained_at", "emptied_at"])
    after = {"drained_at": airflow.drained_at}
    action = "airflow.drained" if drained else "airflow.undrained"
    audit.record(action, airflow, before=before, after=after, actor=actor)
    return airflow


def reseal_airflows() -> int:
    """Encrypt the secrets of each Airflow again, with the first of `SECRET_KEYS`. Raises `UnsealableError`."""
    with transaction.atomic():
        airflows = list(Airflow.objects.select_for_update().exclude(secrets=""))
        for airflow in airflows:
            airflow.secrets = seal(unseal(airflow.secrets))
            airflow.save(update_fields=["secrets"])
    return len(airflows)


def options_of(airflow: Airflow) -> dict[str, Any]:
    """Return the stored options, with the secrets that can be read. The default one has none."""
    try:
        secrets = json.loads(unseal(airflow.secrets)) if airflow.secrets else {}
    except UnsealableError:
        # They are given anew.
        secrets = {}
    return {**airflow.options, **secrets}


class ShownWay(NamedTuple):
    """The way to an Airflow as people may see it: `secrets` are the names of those that are set."""

    url: str
    auth: str
    options: dict[str, Any]
    secrets: list[str]


def shown_way(airflow: Airflow) -> ShownWay:
    """Return the way to an Airflow without its secrets. That to the default one is read from the settings."""
    known = _settings() if airflow.is_default else options_of(airflow)
    others = {name: value for name, value in known.items() if name not in ways.SECRET | {"url", "auth"}}
    return ShownWay(known.get("url", ""), known.get("auth", PASSWORD), others, sorted(ways.SECRET & known.keys()))


def _settings() -> dict[str, Any]:
    known = {name: getattr(settings, f"AIRFLOW_{name.upper()}") for name in way_in.OPTIONS}
    known = {name: value for name, value in known.items() if name.split("_")[0] not in OTHER_WAYS - {known["auth"]}}
    return {name: value for name, value in {**known, "ingest_secret": settings.INGEST_SECRET}.items() if value}


def _set_options(airflow: Airflow, options: Options) -> None:
    secrets = {name: value for name, value in options.items() if name in ways.SECRET}
    airflow.options = {name: value for name, value in options.items() if name not in ways.SECRET}
    airflow.secrets = seal(json.dumps(secrets)) if secrets else ""


def _facts(airflow: Airflow, options: Options) -> dict[str, Any]:
    return {
        "is_active": airflow.is_active,
        **({"from_file": True} if airflow.from_file else {}),
        **{name: value for name, value in options.items() if name not in ways.SECRET},
        "secrets": sorted(ways.SECRET & options.keys()),
    }


def _require_admin(actor: User | None, *, from_file: bool) -> None:
    if from_file:
        return
    if actor is None or not actor.is_superuser or actor.bounds != UNBOUNDED:
        raise NotAllowedError("Only admins add, change, drain and delete Airflows.")
