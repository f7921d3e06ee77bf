"""The last administrator, by mistake or on purpose, tries to leave nobody in charge."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from accounts import services
from accounts.models import Role, User
from accounts.services import LastAdminError
from accounts.tests.conftest import PASSWORD, bearer
from tests.live.conftest import new_user, token_of

PAGES = "/admin/accounts/user/"


@pytest.fixture
def root() -> Iterator[User]:
    """The only active administrator, until the end of the test."""
    with transaction.atomic():
        User.objects.filter(role=Role.ADMIN).update(is_active=False)
        root = new_user(Role.ADMIN)
        root.set_password(PASSWORD)
        root.save()
        yield root
        transaction.set_rollback(True)


ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "delete page": ("{pk}/delete/", {"post": "yes"}),
    "delete action": ("", {"action": "delete_selected", "_selected_action": ["{pk}"], "post": "yes"}),
    "deactivate": ("", {"action": "deactivate", "_selected_action": ["{pk}"]}),
    "make viewer": ("", {"action": "make_viewer", "_selected_action": ["{pk}"]}),
    "no password": ("{pk}/password/", {"usable_password": "false", "unset-password": "yes"}),
    "change form": ("{pk}/change/", {"username": "x", "email": "x@example.com", "role": "viewer", "is_active": ""}),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_last_admin_cannot_go_in_the_admin_pages(root: User, attack: str) -> None:
    """Before: the delete page, the delete action and "no password" left a platform without an administrator."""
    path, form = ATTACKS[attack]
    data = {
        name: [item.format(pk=root.pk) for item in value] if isinstance(value, list) else value
        for name, value in form.items()
    }
    operator = Client()
    operator.force_login(root)

    answer = operator.post(f"{PAGES}{path.format(pk=root.pk)}", data, follow=True)

    assert answer.status_code == 200
    left = User.objects.get(pk=root.pk)
    assert (left.role, left.is_active, left.check_password(PASSWORD)) == ("admin", True, True)
    assert attack == "change form" or "This is the last active administrator" in answer.content.decode()


def test_a_second_admin_can_go(root: User) -> None:
    second = new_user(Role.ADMIN)
    operator = Client()
    operator.force_login(root)

    operator.post(f"{PAGES}{second.pk}/delete/", {"post": "yes"})

    assert not User.objects.filter(pk=second.pk).exists()


def test_a_selection_with_the_last_admin_deletes_nobody(root: User) -> None:
    """Before: both were deleted."""
    ada = new_user()
    operator = Client()
    operator.force_login(root)

    operator.post(PAGES, {"action": "delete_selected", "_selected_action": [ada.pk, root.pk], "post": "yes"})

    assert User.objects.filter(pk__in=[ada.pk, root.pk]).count() == 2


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "viewer"}], ids=str)
def test_the_last_admin_cannot_go_by_rest(root: User, change: dict[str, object]) -> None:
    answer = bearer(token_of(root)).patch(f"/api/v1/users/{root.pk}", change)

    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert User.objects.get(pk=root.pk).role == "admin"


def test_two_admins_who_delete_each_other_at_once_leave_one() -> None:
    """Before: both requests passed, and nobody was left."""
    others = list(User.objects.filter(role=Role.ADMIN, is_active=True).values_list("pk", flat=True))
    User.objects.filter(pk__in=others).update(is_active=False)
    pair = [new_user(Role.ADMIN), new_user(Role.ADMIN)]
    start, refused = threading.Barrier(2), []

    def delete(user: User) -> None:
        start.wait()
        try:
            services.delete(user=user)
        except LastAdminError:
            refused.append(user)
        finally:
            connection.close()

    threads = [threading.Thread(target=delete, args=[user]) for user in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    left = User.objects.filter(pk__in=[user.pk for user in pair])
    assert [user.pk for user in left] == [user.pk for user in refused]
    assert len(refused) == 1
    User.objects.filter(pk__in=others).update(is_active=True)
