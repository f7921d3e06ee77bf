"""Everything that changes an account or a sign-in. The API, the admin pages and the commands call these."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from accounts import audit, lockout, tokens
from accounts.models import EndReason, Identity, Role, SignIn, User
from accounts.tokens import InvalidTokenError
from svops.errors import ConflictError, InvalidInputError, NotAllowedError, SVOpsError

logger = logging.getLogger(__name__)

USER_FACTS = ("username", "email", "name", "role", "is_active")


class RegistrationClosedError(NotAllowedError):
    code = "registration_closed"


class InvalidCredentialsError(SVOpsError):
    """No active user has this name and password; which of the two is wrong is not said."""

    code = "invalid_credentials"
    http_status = HTTPStatus.UNAUTHORIZED


class LastAdminError(ConflictError):
    code = "last_admin"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a sign-in hands out."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User


def register(*, username: str, email: str, name: str, password: str) -> Tokens:
    """Create a user with the role user, and sign them in."""
    if settings.REGISTRATION != "open":
        raise RegistrationClosedError("Registration is closed; ask an administrator for an account.")
    user = create_user(username=username, email=email, name=name, password=password, role=Role.USER)
    return sign_in(user=user)


def login(*, username: str, password: str, address: str) -> Tokens:
    """Sign in by name and password. Raises `LockedOutError` for a try that comes too early after failed ones.

    Django hashes the password of an unknown user too, so that the time taken tells nothing either.
    """
    # Outside of a transaction: hashing takes a while, and SQLite has one writer.
    username = User.normalize_username(username)
    lockout.begin(username=username, address=address)
    user = authenticate(username=username, password=password)
    if not isinstance(user, User):
        audit.sign_in_failed(username)
        raise InvalidCredentialsError("The username or the password is wrong.")
    lockout.succeed(username=username, address=address)
    return sign_in(user=user)


@transaction.atomic
def sign_in(*, user: User, identity: Identity | None = None) -> Tokens:
    """Begin a family of tokens for a user whose credentials were checked, by us or by the provider of `identity`."""
    now = timezone.now()
    sign_in_id = uuid.uuid4()
    refresh_token = tokens.new_refresh_token(sign_in_id, user.pk)
    started = SignIn.objects.create(
        id=sign_in_id,
        user=user,
        refresh_jti=refresh_token["jti"],
        auth_hash=user.get_session_auth_hash(),
        created_at=now,
        refreshed_at=now,
        expires_at=now + api_settings.REFRESH_TOKEN_LIFETIME,
    )
    update_last_login(None, user)  # type: ignore[arg-type]  # a signal's receiver, of which the sender is unused
    audit.signed_in(user, identity)
    logger.info("signed in", extra={"user_id": user.pk, "sign_in_id": str(sign_in_id)})
    return _tokens(started, refresh_token)


def refresh(*, refresh_token: str) -> Tokens:
    """Exchange a refresh token for new tokens, once.

    One that was used before ends the whole family: of its two holders one has stolen it, and we can not
    tell which.
    """
    claims = tokens.read_refresh_token(refresh_token)
    # The refusal is raised out here: inside, it would roll back the end of the family.
    with transaction.atomic():
        renewed = _rotate(claims)
    if renewed is None:
        raise InvalidTokenError("The refresh token is no longer valid; sign in again.")
    return renewed


def _rotate(claims: tokens.RefreshClaims) -> Tokens | None:
    found = SignIn.objects.open().select_related("user").filter(pk=claims.sign_in_id).first()
    if found is None or not found.is_bound or not found.user.is_active:
        return None
    now = timezone.now()
    new = tokens.new_refresh_token(found.pk, found.user.pk)
    # The condition decides between two that present the same token at the same time.
    rotated = (
        SignIn.objects.open()
        .filter(pk=found.pk, refresh_jti=claims.jti)
        .update(refresh_jti=new["jti"], refreshed_at=now, expires_at=now + api_settings.REFRESH_TOKEN_LIFETIME)
    )
    if not rotated:
        end_sign_in(sign_in_id=found.pk, reason=EndReason.REUSE)
        logger.warning("refresh token reused", extra={"user_id": found.user.pk, "sign_in_id": str(found.pk)})
        return None
    return _tokens(found, new)


def _tokens(sign_in: SignIn, refresh_token: tokens.RefreshToken) -> Tokens:
    return Tokens(
        access_token=str(tokens.new_access_token(sign_in)),
        refresh_token=str(refresh_token),
        expires_in=int(api_settings.ACCESS_TOKEN_LIFETIME.total_seconds()),
        user=sign_in.user,
    )


def logout(*, refresh_token: str) -> None:
    """End the family that the refresh token belongs to, whether or not it is the one alive."""
    end_sign_in(sign_in_id=tokens.read_refresh_token(refresh_token).sign_in_id)


@transaction.atomic
def end_sign_in(*, sign_in_id: uuid.UUID, reason: EndReason = EndReason.LOGOUT) -> None:
    """End one sign-in: its access tokens and its refresh token are refused from now on."""
    ended = SignIn.objects.open().filter(pk=sign_in_id).update(ended_at=timezone.now(), end_reason=reason)
    if ended:
        sign_in = SignIn.objects.select_related("user").get(pk=sign_in_id)
        actor = sign_in.user if reason == EndReason.LOGOUT else None
        audit.record("auth.signed_out", sign_in.user, after={"reason": reason}, actor=actor)


@transaction.atomic
def sign_out_everywhere(*, user: User) -> None:
    """End every token, API key, ticket and browser session of the user: nothing that they gave out works on."""
    User.objects.filter(pk=user.pk).update(credential_version=F("credential_version") + 1)
    user.refresh_from_db(fields=["credential_version"])
    now = timezone.now()
    user.sign_ins.open().update(ended_at=now, end_reason=EndReason.REVOKED)
    user.api_keys.filter(revoked_at__isnull=True).update(revoked_at=now)
    user.tickets.filter(revoked_at__isnull=True).update(revoked_at=now)
    audit.record("user.signed_out_everywhere", user)
    logger.info("signed out everywhere", extra={"user_id": user.pk})


def change_password(
    *, user: User, current_password: str, new_password: str, sign_in_id: uuid.UUID | None = None
) -> None:
    """Change one's own password; every other session and token ends, `sign_in_id` is kept."""
    if not user.check_password(current_password):
        raise InvalidInputError({"current_password": ["This is not your current password."]})
    _refuse_weak(new_password, user=user, field="new_password")
    user.set_password(new_password)
    kept = [sign_in_id] if sign_in_id else []
    with transaction.atomic():
        user.save(update_fields=["password"])
        user.sign_ins.filter(pk__in=kept).update(auth_hash=user.get_session_auth_hash())
        others = user.sign_ins.open().exclude(pk__in=kept)
        others.update(ended_at=timezone.now(), end_reason=EndReason.REVOKED)
        audit.record("user.password_changed", user, actor=user)
    logger.info("password changed", extra={"user_id": user.pk})


def create_user(*, username: str, email: str, name: str, password: str, role: Role) -> User:
    """Create an account; a name or address that is taken, or a weak password, is an `InvalidInputError`."""
    user = User(username=User.normalize_username(username), email=email, name=name, role=role)
    _refuse_taken(user)
    _refuse_weak(password, user=user, field="password")
    user.set_password(password)
    _create(user)
    logger.info("user created", extra={"user_id": user.pk, "role": user.role})
    return user


def create_user_from_elsewhere(*, username: str, email: str, name: str, role: Role) -> User:
    """Create an account without a password, for somebody who signs in with a provider's; errors as `create_user`."""
    user = User(username=User.normalize_username(username), email=email, name=name, role=role)
    _refuse_taken(user)
    user.set_unusable_password()
    _create(user)
    logger.info("user created", extra={"user_id": user.pk, "role": user.role})
    return user


def ensure_admin(*, username: str, email: str, password: str) -> User | None:
    """Create the first administrator; None when there is one, active or not, and nothing is changed.

    The password is the operator's own choice and is taken as it is.
    """
    if User.objects.filter(role=Role.ADMIN).exists():
        return None
    user = User(username=User.normalize_username(username), email=email, role=Role.ADMIN)
    _refuse_taken(user)
    user.set_password(password)
    _create(user)
    logger.info("first administrator created", extra={"user_id": user.pk})
    return user


@transaction.atomic
def _create(user: User) -> None:
    _save(user)
    # Who registers has nobody else to be recorded as.
    audit.record("user.created", user, after=audit.facts_of(user, USER_FACTS), actor=user)


@transaction.atomic
def update_profile(*, user: User, name: str | None = None, email: str | None = None) -> User:
    """Change what is given."""
    before = audit.facts_of(user, USER_FACTS)
    if name is not None:
        user.name = name
    if email is not None:
        user.email = email
    _refuse_taken(user)
    _save(user, update_fields=["name", "email"])
    old, new = audit.changes(before, audit.facts_of(user, USER_FACTS))
    if new:
        audit.record("user.changed", user, before=old, after=new)
    return user


@transaction.atomic
def update_user(
    *,
    user: User,
    role: Role | None = None,
    is_active: bool | None = None,
    name: str | None = None,
    email: str | None = None,
) -> User:
    """Change what is given, all of it or nothing."""
    user = update_profile(user=user, name=name, email=email)
    if role is not None and role != user.role:
        user = change_role(user=user, role=role)
    if is_active is not None and is_active != user.is_active:
        user = reactivate(user=user) if is_active else deactivate(user=user)
    return user


@transaction.atomic
def change_role(*, user: User, role: Role) -> User:
    """Give another role; tokens and sessions that exist have its rights from now on."""
    user, other_admins = _locked(user)
    if role != Role.ADMIN:
        _refuse_last_admin(user, other_admins)
    before, user.role = user.role, role
    user.save(update_fields=["role"])
    audit.record("user.role_changed", user, before={"role": before}, after={"role": role})
    logger.info("role changed", extra={"user_id": user.pk, "before": before, "after": str(role)})
    return user


@transaction.atomic
def deactivate(*, user: User) -> User:
    """Shut an account: it can not sign in, and whatever it holds ends now."""
    user, other_admins = _locked(user)
    _refuse_last_admin(user, other_admins)
    user.is_active = False
    user.save(update_fields=["is_active"])
    sign_out_everywhere(user=user)
    audit.record("user.deactivated", user)
    logger.info("user deactivated", extra={"user_id": user.pk})
    return user


@transaction.atomic
def reactivate(*, user: User) -> User:
    """Let an account sign in again; what it held before stays ended."""
    user = User.objects.select_for_update().get(pk=user.pk)
    user.is_active = True
    user.save(update_fields=["is_active"])
    audit.record("user.reactivated", user)
    logger.info("user reactivated", extra={"user_id": user.pk})
    return user


def forget_sign_ins(*, expired_before: datetime) -> int:
    """Delete the sign-ins whose last token expired before then; tell how many."""
    return SignIn.objects.filter(expires_at__lt=expired_before).delete()[0]


def _locked(user: User) -> tuple[User, list[User]]:
    """The user as they are now, and the other active admins; locked: two can not remove each other."""
    wanted = Q(pk=user.pk) | Q(role=Role.ADMIN, is_active=True)
    # In one order for everybody: two that lock in different orders would wait for each other.
    locked = list(User.objects.select_for_update().filter(wanted).order_by("pk"))
    return next(u for u in locked if u.pk == user.pk), [u for u in locked if u.pk != user.pk]


def _refuse_last_admin(user: User, other_admins: list[User]) -> None:
    if user.role == Role.ADMIN and user.is_active and not other_admins:
        raise LastAdminError("This is the last active administrator; make somebody else one first.")


def _refuse_weak(password: str, *, user: User, field: str) -> None:
    try:
        validate_password(password, user=user)
    except ValidationError as exc:
        raise InvalidInputError({field: exc.messages}) from exc


def _refuse_taken(user: User) -> None:
    others = User.objects.exclude(pk=user.pk)
    errors = {}
    if others.filter(username__iexact=user.username).exists():
        errors["username"] = ["A user with that username already exists."]
    if user.email and others.filter(email__iexact=user.email).exists():
        errors["email"] = ["A user with that email address already exists."]
    if errors:
        raise InvalidInputError(errors)


def _save(user: User, *, update_fields: list[str] | None = None) -> None:
    try:
        with transaction.atomic():
            user.save(update_fields=update_fields)
    except IntegrityError:
        # Somebody took the name between the look and the write: say so, as the look would have.
        _refuse_taken(user)
        raise
