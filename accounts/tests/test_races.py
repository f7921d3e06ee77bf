"""Two at the same time, on a database that lets them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts import services
from accounts.models import EndReason, Role, SignIn, User
from accounts.tests.conftest import PASSWORD
from svops.errors import SVOpsError

pytestmark = pytest.mark.django_db(transaction=True)


def _together(*calls: Callable[[], object]) -> list[str]:
    """Run them at the same moment; "" for each that succeeds, else the code of its refusal, sorted."""
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


def test_of_two_that_present_one_refresh_token_one_wins_and_the_family_dies() -> None:
    token = services.sign_in(user=_user("ada", Role.USER)).refresh_token

    outcome = _together(*[lambda: services.refresh(refresh_token=token)] * 2)

    assert outcome == ["", "invalid_token"]
    assert SignIn.objects.get().end_reason == EndReason.REUSE


def test_of_two_admins_who_remove_each_other_one_stays() -> None:
    first, second = _user("first", Role.ADMIN), _user("second", Role.ADMIN)

    outcome = _together(
        lambda: services.change_role(user=first, role=Role.USER), lambda: services.deactivate(user=second)
    )

    assert outcome == ["", "last_admin"]
    assert User.objects.filter(role=Role.ADMIN, is_active=True).count() == 1


def test_of_two_that_take_one_name_one_is_told_that_it_is_taken() -> None:
    def register(username: str) -> services.Tokens:
        return services.register(username=username, email=f"{username}@example.org", name="", password=PASSWORD)

    outcome = _together(lambda: register("grace"), lambda: register("Grace"))

    assert outcome == ["", "invalid"]
    assert User.objects.count() == 1
