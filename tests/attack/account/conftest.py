"""Attacks of somebody who has an account: requests to the application of the tests, in the world of `tests/access`."""

from __future__ import annotations

# The package above commits what it writes. These tests end with a rollback, like those of tests/access.
from collections.abc import Iterator

import pytest
from pytest_django import Settings
from pytest_django.fixtures import db
from redis import Redis

from accounts import limits
from tests.access.conftest import _static_files_on_request, closed_port, one_connection, world

__all__ = ["_static_files_on_request", "closed_port", "db", "one_connection", "world"]


@pytest.fixture
def fresh_counts(settings: Settings) -> Iterator[None]:
    """Forget all counted requests, before the test and after it."""
    redis = Redis.from_url(settings.REDIS_URL)
    _forget(redis)
    yield
    _forget(redis)


def _forget(redis: Redis) -> None:
    limits._Redis.away_until = 0.0
    for key in redis.scan_iter("LIMITS*"):
        redis.delete(key)
