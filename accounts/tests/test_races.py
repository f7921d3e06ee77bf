"""Two calls at the same time, on a database that allows it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts import services
from accounts.models import EndReason, Role, SignIn, User
from accounts.tests.conftest import PASSWORD
from rest.errors import SVOpsError

pytestmark = pytest.mark.django_db(transaction=True)


def _together(*calls: Callable[[], object]) -> list[str]:
    """Run the calls at the same moment. Return "" for each success and the code of each refusal, sorted."""
    start = Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        try:
            start.wait(timeout=10)
            call()
        except SVOpsError as exc:
            return exc.code
        finally:
            connection.close()
        return ""

    with ThreadPoolExecutor(len(calls)) as pool:
        return sorted(pool.map(run, calls))


def _user(username: str, role: Role) -> User:
    return User.objects.create_user(username, f"{username}@example.com", PASSWORD, role=role)


def test_two_uses_of_one_refresh_token_give_one_answer_and_end_the_family() -> None:
    token = services.sign_in(user=_user("ada", Role.USER)).refresh_token

    outcome = _together(*[lambda: services.refresh(refresh_token=token)] * 2)

    assert outcome == ["", "invalid_token"]
    assert SignIn.objects.get().end_reason == EndReason.REUSE


def test_two_admins_who_remove_each_other_leave_one() -> None:
    first, second = _user("first", Role.ADMIN), _user("second", Role.ADMIN)

    outcome = _together(
        lambda: services.change_role(user=first, role=Role.USER), lambda: services.deactivate(user=second)
    )

    assert outcome == ["", "last_admin"]
    assert User.objects.filter(role=Role.ADMIN, is_active=True).count() == 1


def test_two_registrations_of_one_name_create_one_account_and_one_refusal() -> None:
    def register(username: str) -> services.Tokens:
        return services.register(username=username, email=f"{username}@example.org", name="", password=PASSWORD)

    outcome = _together(lambda: register("grace"), lambda: register("Grace"))

    assert outcome == ["", "invalid"]
    assert User.objects.count() == 1
