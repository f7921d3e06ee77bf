"""New accounts: somebody registers, an administrator or the identity provider adds a user, the platform starts."""

from __future__ import annotations

import logging

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import Role, User
from accounts.services.passwords import weak
from accounts.services.sign_ins import Tokens, sign_in
from accounts.services.users import USER_FACTS, refuse_taken, save, taken
from rest.errors import InvalidInputError, NotAllowedError

logger = logging.getLogger(__name__)


class RegistrationClosedError(NotAllowedError):
    code = "registration_closed"


def register(*, username: str, email: str, name: str, password: str) -> Tokens:
    """Create a user with the role `user`, and sign them in."""
    if settings.REGISTRATION != "open":
        raise RegistrationClosedError("Registration is closed; ask an administrator for an account.")
    user = create_user(
        username=username, email=email, name=name, password=password, role=Role.USER, email_confirmed=False
    )
    return sign_in(user=user)


def create_user(
    *, username: str, email: str, name: str, password: str, role: Role, email_confirmed: bool = True
) -> User:
    """Create an account. Raises `InvalidInputError` for a taken name or address, and for a weak password."""
    user = User(username=User.normalize_username(username), email=email, name=name, role=role)
    user.email_confirmed = email_confirmed
    if errors := taken(user) | weak(password, user=user, field="password"):
        raise InvalidInputError(errors)
    user.set_password(password)
    return add_user(user)


def registration_problems(
    *, username: str = "", email: str = "", name: str = "", password: str = ""
) -> dict[str, list[str]]:
    """Return what is wrong with those fields of a registration that are given."""
    if settings.REGISTRATION != "open":
        return {}
    user = User(username=User.normalize_username(username), email=email, name=name)
    found = taken(user) | (weak(password, user=user, field="password") if password else {})
    return {field: messages for field, messages in found.items() if username or field != "username"}


def add_user(user: User) -> User:
    """Store a new user whose name, address and password are checked."""
    _create(user)
    logger.info("user created", extra={"user_id": user.pk, "role": user.role})
    return user


def create_user_from_elsewhere(*, username: str, email: str, name: str, role: Role) -> User:
    """Create an account without a password, for somebody who signs in at the provider. Raises as `create_user`."""
    user = User(username=User.normalize_username(username), email=email, name=name, role=role)
    refuse_taken(user)
    user.set_unusable_password()
    return add_user(user)


def ensure_admin(*, username: str, email: str, password: str) -> User | None:
    """Create the first administrator. Return None and change nothing if there is one, active or not.

    The operator chooses the password; its strength is not checked.
    """
    if User.objects.filter(role=Role.ADMIN).exists():
        return None
    user = User(username=User.normalize_username(username), email=email, role=Role.ADMIN)
    refuse_taken(user)
    user.set_password(password)
    _create(user)
    logger.info("first administrator created", extra={"user_id": user.pk})
    return user


@transaction.atomic
def _create(user: User) -> None:
    save(user)
    # Nobody is signed in while somebody registers, so the new user is the actor.
    audit.record("user.created", user, after=audit.facts_of(user, USER_FACTS), actor=user)
