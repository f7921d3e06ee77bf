"""API keys: creating, rotating and revoking them, and the rights of a program that presents one."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts import audit, opaque
from accounts.identity import Caller, Scope, Via, scopes_of
from accounts.models import ApiKey, Bounds, NoticeKind, User
from accounts.opaque import Kind
from accounts.services import notices
from accounts.tokens import InvalidTokenError
from rest.errors import ConflictError, InvalidInputError

logger = logging.getLogger(__name__)

KEY_FACTS = ("name", "scopes", "workflow_ids", "expires_at")
USED_EVERY = timedelta(minutes=1)
# These scopes reach beyond workflows, or cover all of a user's workflows: a list of workflows cannot restrict them.
UNBOUNDED_SCOPES = frozenset({Scope.NOTIFICATION_WRITE, Scope.USER_ADMIN, Scope.AUDIT_READ})


class TooManyKeysError(ConflictError):
    """The user has as many valid keys as one user may have."""

    code = "too_many_keys"


class KeyRevokedError(ConflictError):
    code = "key_revoked"


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A new key, and its text, which is shown only once."""

    api_key: ApiKey
    text: str = field(repr=False)


@transaction.atomic
def create_key(
    *,
    caller: Caller,
    name: str,
    scopes: Collection[str],
    workflow_ids: Collection[int] | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """Create a key for the caller.

    Raises `InvalidInputError` for scopes that the caller lacks or that a list of workflows cannot restrict, and for
    workflows that do not exist or that the caller cannot see. Raises `TooManyKeysError` beyond `API_KEYS_PER_USER`.
    """
    now = timezone.now()
    _refuse_too_many(caller.user, now)
    _check(caller, scopes=scopes, is_bounded=workflow_ids is not None, expires_at=expires_at, now=now)
    _refuse_unseen(caller.user, workflow_ids or ())
    new = opaque.new(Kind.API_KEY)
    api_key = ApiKey.objects.create(
        user=caller.user,
        name=name,
        prefix=new.prefix,
        digest=new.digest,
        scopes=sorted(set(scopes)),
        workflow_ids=None if workflow_ids is None else sorted(set(workflow_ids)),
        created_at=now,
        expires_at=expires_at,
    )
    audit.record("api_key.created", api_key, after=audit.facts_of(api_key, KEY_FACTS), actor=caller.user)
    notices.record(caller.user, NoticeKind.API_KEY_CREATED, detail=str(api_key))
    logger.info("API key created", extra={"user_id": caller.user.pk, "api_key": api_key.prefix})
    return NewKey(api_key=api_key, text=new.text)


def _check(
    caller: Caller, *, scopes: Collection[str], is_bounded: bool, expires_at: datetime | None, now: datetime
) -> None:
    errors = {}
    if beyond := set(scopes) - caller.scopes:
        errors["scopes"] = [f"You do not have {', '.join(sorted(beyond))} yourself."]
    elif is_bounded and (unbounded := UNBOUNDED_SCOPES & set(scopes)):
        errors["scopes"] = [f"{', '.join(sorted(unbounded))} cannot be combined with workflow_ids."]
    if expires_at is not None and expires_at <= now:
        errors["expires_at"] = ["Must be in the future."]
    if errors:
        raise InvalidInputError(errors)


def _refuse_too_many(user: User, now: datetime) -> None:
    # The lock makes requests of one user take turns: two that come together must not both take the last place.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    most = settings.API_KEYS_PER_USER
    if ApiKey.objects.alive(now).filter(user=user).count() >= most:
        raise TooManyKeysError(f"You have {most} valid keys; revoke one first.", extra={"limit": most})


def _refuse_unseen(user: User, workflow_ids: Collection[int]) -> None:
    unseen = import_string(settings.UNSEEN_WORKFLOWS)
    if missing := unseen(user, workflow_ids):
        names = ", ".join(map(str, sorted(missing)))
        raise InvalidInputError({"workflow_ids": [f"There is no workflow {names}, or you cannot see it."]})


@transaction.atomic
def rotate_key(*, api_key: ApiKey, grace: timedelta) -> NewKey:
    """Give the key a new secret. The old one stays valid for `grace`, so that programs can switch over."""
    now = timezone.now()
    api_key = ApiKey.objects.select_for_update().get(pk=api_key.pk)
    if not is_alive(api_key, now):
        raise KeyRevokedError("The key was revoked or has expired; create another.")
    new = opaque.new(Kind.API_KEY, prefix=api_key.prefix)
    api_key.previous_digest, api_key.digest = api_key.digest, new.digest
    api_key.previous_until = now + grace
    api_key.save(update_fields=["digest", "previous_digest", "previous_until"])
    audit.record("api_key.rotated", api_key, after={"previous_until": api_key.previous_until})
    notices.record(api_key.user, NoticeKind.API_KEY_ROTATED, detail=str(api_key))
    logger.info("API key rotated", extra={"user_id": api_key.user_id, "api_key": api_key.prefix})
    return NewKey(api_key=api_key, text=new.text)


@transaction.atomic
def revoke_key(*, api_key: ApiKey) -> None:
    """Revoke the key. It and the tickets that it issued are refused from now on."""
    if ApiKey.objects.filter(pk=api_key.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
        audit.record("api_key.revoked", api_key)
        notices.record(api_key.user, NoticeKind.API_KEY_REVOKED, detail=str(api_key))
        logger.info("API key revoked", extra={"user_id": api_key.user_id, "api_key": api_key.prefix})


def authenticate_key(text: str) -> Caller:
    """Return the caller behind this key, with one query. Raises `InvalidTokenError`.

    Records the use of the key at most once a minute.
    """
    presented = opaque.read(Kind.API_KEY, text)
    now = timezone.now()
    api_key = _alive(now, Q(prefix=presented.prefix))
    ends = _good_until(api_key, presented, now) if api_key else None
    if api_key is None or ends is None:
        raise InvalidTokenError("The API key is not valid, has expired or was revoked.")
    _note_use(api_key, now)
    return _caller(api_key, expires_at=ends.at)


@dataclass(frozen=True)
class _Ends:
    at: datetime | None


def _good_until(api_key: ApiKey, presented: opaque.Opaque, now: datetime) -> _Ends | None:
    """Return when the presented secret stops being valid; None if it is not valid now."""
    if opaque.matches(presented, api_key.digest):
        return _Ends(api_key.expires_at)
    until = api_key.previous_until
    if until and until > now and opaque.matches(presented, api_key.previous_digest):
        return _Ends(min(until, api_key.expires_at or until))
    return None


def _caller(api_key: ApiKey, *, expires_at: datetime | None) -> Caller:
    user = api_key.user
    user.bounds = Bounds(workflow_ids=None if api_key.workflow_ids is None else frozenset(api_key.workflow_ids))
    withheld = frozenset(Scope) - frozenset(api_key.scopes)
    return Caller(
        user=user,
        scopes=scopes_of(user) - withheld,
        via=Via.API_KEY,
        withheld=withheld,
        expires_at=expires_at,
        api_key_id=api_key.pk,
        credential=str(api_key),
    )


def is_alive(api_key: ApiKey, now: datetime) -> bool:
    """Return whether a loaded key is alive; the same condition as `ApiKeyQuerySet.alive`."""
    return api_key.revoked_at is None and (api_key.expires_at is None or api_key.expires_at > now)


def holder(api_key_id: int) -> User | None:
    """Return the user of a key that is still valid."""
    api_key = _alive(timezone.now(), Q(pk=api_key_id))
    return api_key.user if api_key else None


def _alive(now: datetime, which: Q) -> ApiKey | None:
    return ApiKey.objects.alive(now).select_related("user").filter(which, user__is_active=True).first()


def _note_use(api_key: ApiKey, now: datetime) -> None:
    before = now - USED_EVERY
    if api_key.last_used_at is None or api_key.last_used_at < before:
        # The update repeats the condition, so that only one of many simultaneous requests writes.
        unused = Q(last_used_at__isnull=True) | Q(last_used_at__lt=before)
        ApiKey.objects.filter(unused, pk=api_key.pk).update(last_used_at=now)
