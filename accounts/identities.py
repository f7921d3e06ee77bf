"""Finds the user of a provider's identity. The first sign-in creates one; an existing account is never taken over."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts import audit, oidc, services
from accounts.models import Identity, Role, User
from accounts.oidc import Claims
from rest.errors import ConflictError, InvalidInputError, NotAllowedError

logger = logging.getLogger(__name__)


class AccountExistsError(ConflictError):
    """Another account has the name or the address. Only an administrator can know whether it is the same person."""

    code = "account_exists"


class AccountInactiveError(NotAllowedError):
    code = "account_inactive"


class IncompleteIdentityError(NotAllowedError):
    code = "identity_incomplete"


def exchange(*, id_token: str) -> services.Tokens:
    """Exchange an ID token of the provider for tokens of ours."""
    identity = enter(oidc.verify(id_token))
    return services.sign_in(user=identity.user, identity=identity)


@transaction.atomic
def enter(claims: Claims) -> Identity:
    """Return the identity and its active user, with the role that the provider gives. Create both at first."""
    identity = _known(claims) or _new(claims)
    if not identity.user.is_active:
        raise AccountInactiveError("This account is deactivated; ask an administrator.")
    if claims.role is not None and claims.role != identity.user.role:
        identity.user = services.change_role(user=identity.user, role=claims.role)
    return identity


def _known(claims: Claims) -> Identity | None:
    return Identity.objects.select_related("user").filter(issuer=claims.issuer, subject=claims.subject).first()


def _new(claims: Claims) -> Identity:
    _refuse_unusable(claims.username)
    try:
        with transaction.atomic():
            user = services.create_user_from_elsewhere(
                username=claims.username,
                email=claims.email,
                name=claims.name,
                role=claims.role or Role(settings.OIDC_DEFAULT_ROLE),
            )
            return link(user=user, issuer=claims.issuer, subject=claims.subject, actor=user)
    except InvalidInputError as exc:
        # Either another first sign-in of the same person was faster, or another account has the name.
        if known := _known(claims):
            return known
        raise AccountExistsError(
            f"Another account has the name {claims.username} or your address; ask an administrator to link it."
        ) from exc


def _refuse_unusable(username: str) -> None:
    try:
        # Check the name as it would be stored: normalizing can turn one letter into several words.
        User._meta.get_field("username").clean(User.normalize_username(username), None)
    except ValidationError as exc:
        claim = settings.OIDC_USERNAME_CLAIM
        message = f"The identity provider's claim {claim} is missing or cannot be a username."
        raise IncompleteIdentityError(message) from exc


@transaction.atomic
def link(*, user: User, issuer: str, subject: str, actor: User | None = None) -> Identity:
    """Let that subject sign in as the user from now on."""
    try:
        with transaction.atomic():
            identity = Identity.objects.create(user=user, issuer=issuer, subject=subject)
    except IntegrityError as exc:
        raise InvalidInputError({"subject": ["This subject is already linked to a user."]}) from exc
    audit.record("identity.linked", identity, after=_facts(identity), actor=actor)
    logger.info("identity linked", extra={"user_id": user.pk, "identity_id": identity.pk})
    return identity


@transaction.atomic
def unlink(*, identity: Identity) -> None:
    """Forget that the subject is the user. Tokens and sessions of the user stay valid."""
    audit.record("identity.unlinked", identity, before=_facts(identity))
    logger.info("identity unlinked", extra={"user_id": identity.user_id, "identity_id": identity.pk})
    identity.delete()


def _facts(identity: Identity) -> dict[str, str]:
    return {"username": identity.user.username, "issuer": identity.issuer, "subject": identity.subject}
