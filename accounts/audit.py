"""The audit trail: who did what, to what, from where, and what it was before and after.

`record` writes a row in the transaction of the change that it tells of, so there is neither without the other. The
place in the chain is given after the commit, in the order of commits, by one sealer at a time: were it given inside,
every change would wait for every other. Each sealed row holds a hash over itself and the row before it, so that
whatever is changed, inserted or taken out later breaks the chain there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django_guid import get_guid

from accounts.addresses import address_of
from accounts.identity import Caller, Via
from accounts.models import AuditEntry, AuditHead, Identity, User

BATCH = 1000
Facts = Mapping[str, Any]
IDENTITY_FACTS = ("issuer", "subject")

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


def remember_request(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: what is recorded while the request is served is recorded as its caller's doing."""

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
    """Append to the trail; call it inside the change. `actor` is for where nobody is signed in yet, or by request."""
    assert connection.in_atomic_block, "record() must share the transaction of the change"  # noqa: S101
    request = _request.get()
    caller: Caller | None = getattr(request, "caller", None)
    who = _actor(request, caller) or actor
    AuditEntry.objects.create(
        at=timezone.now(),
        actor_id=who.pk if who else None,
        actor=who.get_username() if who else "",
        via=_via(request, caller),
        credential=caller.credential if caller else "",
        action=action,
        object_type=obj._meta.label_lower,
        object_id=str(obj.pk or ""),
        object_name=str(obj)[:250],
        before=_plain(before),
        after=_plain(after),
        address=address_of(request) if request else "",
        request_id=(get_guid() or "") if request else "",
    )
    transaction.on_commit(seal, robust=True)


def _actor(request: HttpRequest | None, caller: Caller | None) -> User | None:
    if caller is not None:
        return caller.user
    user = getattr(request, "user", None)
    return user if isinstance(user, User) else None


def _via(request: HttpRequest | None, caller: Caller | None) -> str:
    if caller is not None:
        return caller.via
    if request is None:
        return "command"
    return Via.SESSION if _actor(request, None) else "none"


def _plain(facts: Facts | None) -> Any:
    """As JSON will give it back, so that a hash now is a hash later."""
    return None if facts is None else json.loads(json.dumps(facts, cls=DjangoJSONEncoder))


def facts_of(obj: Model, names: Iterable[str]) -> dict[str, Any]:
    """Fields of a row, for `before` and `after`."""
    return {name: getattr(obj, name) for name in names}


def changes(before: Facts, after: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs, as it was and as it is."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


@transaction.atomic
def sign_in_failed(username: str) -> None:
    """Record that a password was wrong for this name."""
    # Of an unknown name nothing is kept: it may be a password that went into the wrong field. A row there is all the
    # same, or the time taken would tell whether there is such a user.
    user = User.objects.filter(username=username).first()
    record("auth.sign_in_failed", user or User(username="(unknown)"))


def signed_in(user: User, identity: Identity | None) -> None:
    """Record a sign-in, and who vouched for it if it was not we."""
    record("auth.signed_in", user, after=facts_of(identity, IDENTITY_FACTS) if identity else None, actor=user)


@transaction.atomic
def session_began(user: User, request: HttpRequest, **kwargs: Any) -> None:
    """Receives Django's signal of a sign-in by a form or by single sign-on, which leaves the identity here."""
    signed_in(user, getattr(request, "identity", None))


@transaction.atomic
def session_ended(user: User | None, **kwargs: Any) -> None:
    """Receives Django's signal of a sign-out; there is nobody when the session had ended before."""
    if user is not None:
        record("auth.signed_out", user, actor=user)


# --- The chain --------------------------------------------------------------------------------------------


@transaction.atomic
def seal() -> None:
    """Give committed rows their place in the chain. Safe to call at any time."""
    head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
    for entry in AuditEntry.objects.filter(position__isnull=True).order_by("id")[:BATCH]:
        head.position += 1
        head.hash = hash_of(entry, position=head.position, previous=head.hash)
        _raw().filter(pk=entry.pk).update(position=head.position, hash=head.hash)
    head.save(update_fields=["position", "hash"])


def _raw() -> QuerySet[AuditEntry]:
    """Past the guard of the model's own manager, which changes nothing."""
    return QuerySet(AuditEntry)


def hash_of(entry: AuditEntry, *, position: int, previous: str) -> str:
    facts = {name: getattr(entry, name) for name in AuditEntry.SEALED}
    canonical = json.dumps([previous, position, facts], cls=DjangoJSONEncoder, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`broken` is empty for a chain that is whole; else it says where it is not, and why."""

    count: int
    head: str
    broken: str = ""


def verify() -> Verdict:
    """Go through the whole chain. That nothing was cut off its end is known by a head that was kept elsewhere."""
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
    return Verdict(count=position, head=previous)


def _sealed() -> Iterator[AuditEntry]:
    return AuditEntry.objects.filter(position__isnull=False).order_by("position").iterator(chunk_size=BATCH)


def holds(head: str) -> bool:
    """Whether a row with this hash is in the chain."""
    return AuditEntry.objects.filter(hash=head, position__isnull=False).exists()
