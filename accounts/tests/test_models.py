from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import services
from accounts.models import Role, SignIn, User
from runner.home import REPOSITORY

HASH_TWICE = "from django.contrib.auth.hashers import make_password as made; print(made('p'), made('p'))"


@pytest.mark.parametrize(("role", "admin"), [("viewer", False), ("user", False), ("admin", True)])
def test_staff_and_superuser_follow_the_role(db: None, role: str, admin: bool) -> None:
    user = User.objects.create_user("x", is_staff=not admin, is_superuser=not admin, role=role)

    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser) == (admin, admin)


def test_saving_only_the_role_saves_staff_and_superuser_too(ada: User) -> None:
    ada.role = Role.ADMIN
    ada.save(update_fields=["role"])

    ada.refresh_from_db()
    assert (ada.is_staff, ada.is_superuser) == (True, True)


@pytest.mark.parametrize("change", [{"is_superuser": True}, {"is_staff": True}, {"role": "admin"}])
def test_the_database_refuses_a_superuser_who_is_not_an_admin(ada: User, change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=ada.pk).update(**change)


def test_names_and_addresses_are_unique_ignoring_case(ada: User) -> None:
    for username, email in [("ADA", "other@example.com"), ("other", "ADA@EXAMPLE.COM")]:
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create_user(username, email)


def test_no_token_is_stored(ada: User) -> None:
    tokens = services.sign_in(user=ada)

    row = str(SignIn.objects.values().get())
    assert tokens.refresh_token.rpartition(".")[2] not in row
    assert tokens.access_token.rpartition(".")[2] not in row


def test_a_password_is_kept_as_a_slow_salted_hash() -> None:
    """Before: only Django said so. A faster hasher in our settings would have passed unnoticed."""
    # What the settings of a platform say; those of the tests say something faster.
    fields = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "--command", HASH_TWICE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    (algorithm, rounds, salt, _), (_, _, other_salt, _) = (field.split("$") for field in fields[-2:])
    assert algorithm == "pbkdf2_sha256"
    assert int(rounds) >= 100_000
    assert len(salt) >= 22  # characters for 128 bits
    assert salt != other_salt


def test_sign_ins_are_deleted_once_their_last_token_has_expired(ada: User) -> None:
    services.sign_in(user=ada)
    now = timezone.now()

    assert services.forget_sign_ins(expired_before=now) == 0
    assert services.forget_sign_ins(expired_before=now + timedelta(days=8)) == 1
