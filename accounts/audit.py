"""The audit trail: who did what, to what, from where, and what it was before and after.

`record` writes a row in the transaction of the change, so neither exists without the other. One sealer at a time
gives rows their place in the chain, after the commit and in the order of commits: inside the transaction, every
change would wait for every other. Each sealed row holds a hash over itself and the row before it, so any later
change, insertion or removal breaks the chain at that place. Triggers of runs are too many for a sealing each: the next
sealing includes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.admin.utils import NestedObjects
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django_guid import get_guid

from accounts import audit_witness
from accounts.addresses import address_of
from accounts.audit_witness import Head
from accounts.identity import Caller, Via
from accounts.models import AuditEntry, AuditHead, Identity, User
from accounts.origin import Origin, origin_of

BATCH = 1000
MOST_NAMES = 100  # of rows that are deleted together with another one, per kind
# Values of `via` beside those of `Via`: no request, and a request of nobody who is signed in.
COMMAND, NOBODY = "command", "none"
Facts = Mapping[str, object]
IDENTITY_FACTS = ("issuer", "subject")


@dataclass(frozen=True, kw_only=True)
class Act:
    """What was done to an object, and what changed."""

    obj: Model
    before: Facts | None = None
    after: Facts | None = None


_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


def remember_request(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: makes the caller of the request the actor of all that is recorded while it is served."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        token = _request.set(request)
        try:
            return get_response(request)
        finally:
            _request.reset(token)

    return middleware


def record(
    action: str, obj: Model, *, before: Facts | None = None, after: Facts | None = None, actor: User | None = None
) -> None:
    """Append a row to the trail, sealed right after the commit: `record_all` with one act."""
    record_all(action, [Act(obj=obj, before=before, after=after)], actor=actor)


def record_all(action: str, acts: Iterable[Act], *, actor: User | None = None, seal_at_once: bool = True) -> None:
    """Append a row for each act to the trail, with one query. Call this inside the transaction of the changes.

    The caller of the current request is the actor; `actor` is the fallback if there is no request or no caller. Rows
    that are not sealed at once are sealed with the next ones that are, or within seconds by `tasks.seal_audit`.
    """
    assert connection.in_atomic_block, "record_all() must share the transaction of the changes"  # noqa: S101
    request = _request.get()
    caller: Caller | None = getattr(request, "caller", None)
    who = _actor(request, caller) or actor
    common: dict[str, Any] = {
        "at": timezone.now(),
        "actor_id": who.pk if who else None,
        "actor": who.get_username() if who else "",
        "via": _via(request, caller),
        "credential": caller.credential if caller else "",
        "action": action,
        "address": address_of(request) if request else "",
        "request_id": (get_guid() or "") if request else "",
    }
    AuditEntry.objects.bulk_create(
        AuditEntry(
            object_type=act.obj._meta.label_lower,
            object_id=str(act.obj.pk or ""),
            object_name=str(act.obj)[:250],
            before=_plain(act.before),
            after=_plain(act.after),
            **common,
        )
        for act in acts
    )
    if seal_at_once:
        transaction.on_commit(seal, robust=True)


def present_origin() -> Origin:
    """Return where the current request comes from; empty outside of a request."""
    return origin_of(_request.get())


def _actor(request: HttpRequest | None, caller: Caller | None) -> User | None:
    if caller is not None:
        return caller.user
    user = getattr(request, "user", None)
    return user if isinstance(user, User) else None


def _via(request: HttpRequest | None, caller: Caller | None) -> str:
    if caller is not None:
        return caller.via
    if request is None:
        return COMMAND
    return Via.SESSION if _actor(request, None) else NOBODY


def _plain(facts: Facts | None) -> Any:
    """Return the facts as JSON will return them, so that the hash stays the same."""
    return None if facts is None else json.loads(json.dumps(facts, cls=DjangoJSONEncoder))


def facts_of(obj: Model, names: Iterable[str]) -> dict[str, object]:
    """Return fields of a row, for `before` and `after`."""
    return {name: getattr(obj, name) for name in names}


def changes(before: Facts, after: Facts) -> tuple[dict[str, object], dict[str, object]]:
    """Return the old and the new values of the facts that differ."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def removed_with(obj: Model) -> dict[str, list[str]]:
    """Return by kind, and by name, the rows that are deleted together with `obj`."""
    found = NestedObjects(using=DEFAULT_DB_ALIAS)
    found.collect([obj])
    return {
        model._meta.label_lower: sorted(map(str, rows))[:MOST_NAMES]
        for model, rows in found.data.items()
        if model is not type(obj) and not model._meta.auto_created
    }


@transaction.atomic
def sign_in_failed(username: str) -> None:
    """Record a wrong password for this name."""
    # An unknown name is not stored: it may be a password that was typed into the wrong field. The row is written all
    # the same; otherwise the time of the answer would reveal whether the user exists.
    user = User.objects.filter(username=username).first()
    record("auth.sign_in_failed", user or User(username="(unknown)"))


def signed_in(user: User, identity: Identity | None) -> None:
    """Record a sign-in, and the identity if a provider vouched for it."""
    record("auth.signed_in", user, after=facts_of(identity, IDENTITY_FACTS) if identity else None, actor=user)


@transaction.atomic
def session_began(user: User, request: HttpRequest, **signal: object) -> None:
    """Receive Django's signal of a sign-in by a form or by single sign-on, which puts the identity on the request."""
    signed_in(user, getattr(request, "identity", None))


@transaction.atomic
def session_ended(user: User | None, **signal: object) -> None:
    """Receive Django's signal of a sign-out; `user` is None if the session had ended before."""
    if user is not None:
        record("auth.signed_out", user, actor=user)


# --- The chain --------------------------------------------------------------------------------------------


def seal() -> None:
    """Give all committed rows their place in the chain. Safe to call at any time."""
    while _seal_batch() == BATCH:
        pass


@transaction.atomic
def _seal_batch() -> int:
    """Seal the oldest rows that wait, and return how many."""
    head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
    places = []
    for entry in AuditEntry.objects.filter(position__isnull=True).order_by("id")[:BATCH]:
        head.position += 1
        head.hash = hash_of(entry, position=head.position, previous=head.hash)
        places.append((head.position, head.hash, entry.pk))
    if not places:
        return 0
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE accounts_auditentry SET position = %s, hash = %s WHERE id = %s", places)
    head.save(update_fields=["position", "hash"])
    # A head that was kept stays kept while the trail does not contain it: it is the proof of the cut.
    if audit_witness.missing(_contains) is None:
        sealed = Head(position=head.position, hash=head.hash)
        transaction.on_commit(lambda: audit_witness.keep(sealed), robust=True)
    return len(places)


def witness() -> None:
    """Compare the trail with the kept head, and send the present head to the webhook."""
    seal()
    head = AuditHead.objects.get(pk=1)
    whole = audit_witness.missing(_contains) is None
    audit_witness.post(Head(position=head.position, hash=head.hash), whole=whole)


def _contains(head: Head) -> bool:
    return AuditEntry.objects.filter(position=head.position, hash=head.hash).exists()


def _raw() -> QuerySet[AuditEntry]:
    """Return a queryset that may update rows; the model's own manager refuses to."""
    return QuerySet(AuditEntry)


def hash_of(entry: AuditEntry, *, position: int, previous: str) -> str:
    facts = {name: getattr(entry, name) for name in AuditEntry.SEALED}
    canonical = json.dumps([previous, position, facts], cls=DjangoJSONEncoder, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`broken` is empty if the chain is whole; otherwise it says where the chain breaks and why."""

    count: int
    head: str
    broken: str = ""


def verify() -> Verdict:
    """Check the whole chain, and that it contains the head that was kept outside of the database."""
    seal()
    head = AuditHead.objects.get(pk=1)
    previous, position = "", 0
    for entry in _sealed():
        position += 1
        if entry.position != position:
            return Verdict(count=position - 1, head=previous, broken=f"row {position} is missing")
        previous = hash_of(entry, position=position, previous=previous)
        if entry.hash != previous:
            return Verdict(count=position - 1, head=entry.hash, broken=f"row {position} was changed")
    if (position, previous) != (head.position, head.hash):
        return Verdict(count=position, head=previous, broken=f"rows after {position} are missing")
    if kept := audit_witness.missing(_contains):
        broken = f"row {kept.position} is not the one whose hash is kept in {settings.AUDIT_HEAD_FILE}"
        return Verdict(count=position, head=previous, broken=broken)
    return Verdict(count=position, head=previous)


def _sealed() -> Iterator[AuditEntry]:
    return AuditEntry.objects.filter(position__isnull=False).order_by("position").iterator(chunk_size=BATCH)


def holds(head: str) -> bool:
    """Return whether a row with this hash is in the chain."""
    return AuditEntry.objects.filter(hash=head, position__isnull=False).exists()
