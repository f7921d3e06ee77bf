from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import services
from accounts.models import Role, SignIn, User


@pytest.mark.parametrize(("role", "admin"), [("viewer", False), ("user", False), ("admin", True)])
def test_staff_and_superuser_follow_the_role(db: None, role: str, admin: bool) -> None:
    user = User.objects.create_user("x", is_staff=not admin, is_superuser=not admin, role=role)

    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser) == (admin, admin)


def test_a_role_saved_alone_takes_staff_and_superuser_with_it(ada: User) -> None:
    ada.role = Role.ADMIN
    ada.save(update_fields=["role"])

    ada.refresh_from_db()
    assert (ada.is_staff, ada.is_superuser) == (True, True)


@pytest.mark.parametrize("change", [{"is_superuser": True}, {"is_staff": True}, {"role": "admin"}])
def test_the_database_refuses_a_superuser_who_is_no_admin(ada: User, change: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.filter(pk=ada.pk).update(**change)


def test_names_and_addresses_are_unique_whatever_their_case(ada: User) -> None:
    for username, email in [("ADA", "other@example.com"), ("other", "ADA@EXAMPLE.COM")]:
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create_user(username, email)


def test_no_token_is_stored(ada: User) -> None:
    tokens = services.sign_in(user=ada)

    row = str(SignIn.objects.values().get())
    assert tokens.refresh_token.rpartition(".")[2] not in row
    assert tokens.access_token.rpartition(".")[2] not in row


def test_sign_ins_are_forgotten_once_their_last_token_has_expired(ada: User) -> None:
    services.sign_in(user=ada)
    now = timezone.now()

    assert services.forget_sign_ins(expired_before=now) == 0
    assert services.forget_sign_ins(expired_before=now + timedelta(days=8)) == 1
