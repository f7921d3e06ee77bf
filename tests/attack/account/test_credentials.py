"""One account with many credentials: it gets no more than with one."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import close_old_connections
from pytest_django import Settings

from accounts import api_keys, services
from accounts.api_keys import TooManyKeysError
from accounts.authentication import caller_of
from accounts.identity import Scope
from accounts.models import ApiKey, Role, User
from tests.access.world import RUN_ONLY, World, client_of, new_key, new_ticket

KEYS = "/api/v1/api-keys"

pytestmark = pytest.mark.usefixtures("fresh_counts")


def test_keys_and_tickets_multiply_no_limit(world: World, settings: Settings) -> None:
    """Before: each key and each ticket had a limit of its own: 21 credentials made 21 times as many requests."""
    owner = world.users["owner"]
    tokens = [services.sign_in(user=owner).access_token]
    tokens += [new_key(owner, RUN_ONLY).text for _ in range(10)]
    tokens += [new_ticket(owner, world.run, "view").text for _ in range(10)]
    settings.RATE_LIMIT_API = "20/hour"

    path = f"/api/v1/workflows/{world.workflow.pk}/runs/{world.run.pk}"
    statuses = [client_of(token).get(path).status_code for token in tokens * 2]

    assert Counter(statuses) == {200: 20, 429: 22}
    stranger = services.sign_in(user=world.users["may view"]).access_token
    assert client_of(stranger).get(path).status_code == 200


def test_a_user_has_so_many_valid_keys_and_no_more(world: World, settings: Settings) -> None:
    """Before: as many keys as an account asked for."""
    settings.API_KEYS_PER_USER = 4
    owner = client_of(services.sign_in(user=world.users["owner"]).access_token)  # has one already
    body = {"name": "k", "scopes": ["workflow:read"]}

    made = [owner.post(KEYS, body) for _ in range(6)]
    stored = ApiKey.objects.filter(user=world.users["owner"]).count()
    owner.delete(f"{KEYS}/{made[0].json()['id']}")

    assert [answer.status_code for answer in made] == [201, 201, 201, 409, 409, 409]
    assert (made[-1].json()["code"], made[-1].json()["limit"], stored) == ("too_many_keys", 4, 4)
    assert owner.post(KEYS, body).status_code == 201
    assert owner.post(f"{KEYS}/{made[1].json()['id']}/rotate", {}).status_code == 200
    stranger = client_of(services.sign_in(user=world.users["stranger"]).access_token)
    assert stranger.post(KEYS, body).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_keys_that_are_asked_for_at_once_are_not_more(settings: Settings) -> None:
    settings.API_KEYS_PER_USER = 3
    user = User.objects.create_user("many", "many@example.com", role=Role.USER)

    def create(number: int) -> bool:
        try:
            api_keys.create_key(caller=caller_of(user), name=f"k{number}", scopes=[Scope.WORKFLOW_READ])
        except TooManyKeysError:
            return False
        finally:
            close_old_connections()
        return True

    with ThreadPoolExecutor(8) as pool:
        results = Counter(pool.map(create, range(8)))

    assert results == {True: 3, False: 5}
    assert ApiKey.objects.filter(user=user).count() == 3
