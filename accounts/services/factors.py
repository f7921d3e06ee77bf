"""The second factor: setting it up, checking a code at the sign-in, and removing it."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus

import pyotp
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import EndReason, NoticeKind, RecoveryCode, SecondFactor, User
from accounts.services import notices
from rest import sealing
from rest.errors import ConflictError, InvalidInputError, NotAllowedError, SVOpsError

logger = logging.getLogger(__name__)

STEP = 30  # seconds
WINDOW = 1  # steps that the clock of the app may be off
CODES = 10
ISSUER = "SVOps"


class SecondFactorRequiredError(SVOpsError):
    """The password is right; the account also needs a code."""

    code = "second_factor_required"
    http_status = HTTPStatus.UNAUTHORIZED


class FactorExistsError(ConflictError):
    code = "second_factor_exists"


@dataclass(frozen=True, kw_only=True)
class NewFactor:
    """What the user enters into the app, shown only once."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


@transaction.atomic
def begin_factor(*, user: User, current_password: str) -> NewFactor:
    """Make a secret for the user's app. It does not count before `confirm_factor`."""
    _require_password(user, current_password)
    if user.second_factor_at is not None:
        raise FactorExistsError("You have a second factor; remove it first.")
    secret = pyotp.random_base32()
    SecondFactor.objects.update_or_create(
        user=user, defaults={"sealed_secret": sealing.seal(secret), "confirmed_at": None, "last_step": 0}
    )
    return NewFactor(secret=secret, uri=pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name=ISSUER))


@transaction.atomic
def confirm_factor(
    *, user: User, code: str, sign_in_id: uuid.UUID | None = None, session_key: str | None = None
) -> list[str]:
    """Let the factor count from now on, and return the recovery codes. Every other session and token ends."""
    factor = SecondFactor.objects.select_for_update().filter(user=user, confirmed_at__isnull=True).first()
    if factor is None or not _use_step(factor, code):
        raise InvalidInputError({"code": ["This is not the present code of your app."]})
    now = timezone.now()
    SecondFactor.objects.filter(pk=factor.pk).update(confirmed_at=now)
    user.second_factor_at = now
    user.save(update_fields=["second_factor_at"])
    others = user.sign_ins.open().exclude(pk__in=[sign_in_id] if sign_in_id else [])
    others.update(ended_at=now, end_reason=EndReason.REVOKED)
    user.browser_sessions.exclude(session_key=session_key or "").delete()
    audit.record("user.second_factor_added", user)
    notices.record(user, NoticeKind.FACTOR_ADDED)
    logger.info("second factor added", extra={"user_id": user.pk})
    return _new_codes(user)


@transaction.atomic
def new_recovery_codes(*, user: User, current_password: str, code: str) -> list[str]:
    """Replace the recovery codes."""
    _require_password(user, current_password)
    _require_code(user, code)
    audit.record("user.recovery_codes_made", user)
    notices.record(user, NoticeKind.RECOVERY_CODES_MADE)
    return _new_codes(user)


@transaction.atomic
def disable_factor(*, user: User, current_password: str, code: str) -> None:
    """Remove one's own factor."""
    _require_password(user, current_password)
    _require_code(user, code)
    remove_factor(user=user)


@transaction.atomic
def remove_factor(*, user: User) -> None:
    """Remove the factor of somebody who has lost it. Only an administrator or a command may."""
    if not SecondFactor.objects.filter(user=user).delete()[0]:
        return
    user.recovery_codes.all().delete()
    user.second_factor_at = None
    user.save(update_fields=["second_factor_at"])
    audit.record("user.second_factor_removed", user)
    notices.record(user, NoticeKind.FACTOR_REMOVED)
    logger.info("second factor removed", extra={"user_id": user.pk})


def check_code(*, user: User, code: str) -> None:
    """Let the sign-in go on if the user has no factor or the code is right.

    Raises `SecondFactorRequiredError` without a code or for a wrong one, since the password was right.
    """
    if user.second_factor_at is None:
        return
    if not code:
        raise SecondFactorRequiredError("This account has a second factor: send a code of the app, or a recovery code.")
    with transaction.atomic():
        if _is_right(user, code):
            return
        audit.record("auth.second_factor_failed", user)
    raise SecondFactorRequiredError("The code is wrong, or was used already.")


def reseal_factors() -> int:
    """Encrypt every secret again with the first of `SECRET_KEYS`. Raises `UnsealableError`."""
    factors = list(SecondFactor.objects.all())
    for factor in factors:
        factor.sealed_secret = sealing.seal(sealing.unseal(factor.sealed_secret))
        factor.save(update_fields=["sealed_secret"])
    return len(factors)


def _is_right(user: User, code: str) -> bool:
    factor = SecondFactor.objects.select_for_update().get(user=user)
    if _use_step(factor, code):
        return True
    used = user.recovery_codes.filter(digest=_digest(code), used_at__isnull=True).update(used_at=timezone.now())
    if used:
        audit.record("auth.recovery_code_used", user, after={"left": user.recovery_codes.filter(used_at=None).count()})
        notices.record(user, NoticeKind.RECOVERY_CODE_USED)
    return bool(used)


def _use_step(factor: SecondFactor, code: str) -> bool:
    """Return whether it is a code of a step that was not used yet, and use the step up."""
    totp, step = pyotp.TOTP(sealing.unseal(factor.sealed_secret)), int(time.time()) // STEP
    typed = code.replace(" ", "")
    for candidate in range(step - WINDOW, step + WINDOW + 1):
        if pyotp.utils.strings_equal(typed, totp.generate_otp(candidate)):
            # Of two who send the same code at the same time, one changes the row.
            fresh = SecondFactor.objects.filter(pk=factor.pk, last_step__lt=candidate)
            return fresh.update(last_step=candidate) == 1
    return False


def _new_codes(user: User) -> list[str]:
    user.recovery_codes.all().delete()
    codes = [f"{secrets.token_hex(5)}-{secrets.token_hex(5)}" for _ in range(CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(code)) for code in codes)
    return codes


def _digest(code: str) -> str:
    return hashlib.sha256("".join(filter(str.isalnum, code)).lower().encode()).hexdigest()


def _require_password(user: User, password: str) -> None:
    if not user.has_usable_password():
        raise NotAllowedError("You sign in at the identity provider; it decides on the second factor.")
    if not user.check_password(password):
        raise InvalidInputError({"current_password": ["This is not your current password."]})


def _require_code(user: User, code: str) -> None:
    if user.second_factor_at is None or not _is_right(user, code):
        raise InvalidInputError({"code": ["This is not the present code of your app, nor a recovery code."]})
