"""Guessing passwords gets slower and slower, for one who guesses and for nobody else.

Failures are counted per account *and* address, so that nobody can lock somebody else out by failing in their name.
From the `LOGIN_ATTEMPTS`-th failure in a row on, each try has to wait twice as long as the one before it. The name
is counted as it was typed, whether or not there is such a user. While Redis is away nothing is counted.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from typing import Any

import redis
from django.conf import settings

from accounts.addresses import site_of
from svops.errors import TooManyRequestsError

logger = logging.getLogger(__name__)

LONGEST_WAIT = 900
FORGOTTEN_AFTER = 3600


class LockedOutError(TooManyRequestsError):
    """This account was tried from this address too often; whether it exists is not said."""

    code = "locked_out"


def begin(*, username: str, address: str) -> None:
    """Count a try before its password is looked at; raises `LockedOutError` when it comes too early."""
    if not settings.LOGIN_ATTEMPTS:
        return
    key = _key(username, address)
    try:
        wait = _begin(key)
    except redis.RedisError as exc:
        logger.warning("no lockout: Redis does not answer", extra={"error": type(exc).__name__})
        return
    if wait:
        raise LockedOutError("Too many tries; try again later.", retry_after=wait)


def _begin(key: str) -> int:
    """How long this try has to wait; 0 lets it through."""
    # Any: the stubs have one answer for the blocking and for the asynchronous client.
    connection: Any = _redis()
    if (left := int(connection.pttl(f"{key}:wait"))) > 0:
        return -(-left // 1000)
    failures = int(connection.incr(f"{key}:tries"))
    connection.expire(f"{key}:tries", FORGOTTEN_AFTER)
    if failures < settings.LOGIN_ATTEMPTS:
        return 0
    wait = wait_after(failures)
    # Set before the password is looked at: of many tries that are sent at once, one gets through.
    return 0 if connection.set(f"{key}:wait", 1, ex=wait, nx=True) else wait


def wait_after(failures: int) -> int:
    """Seconds between this try and the next."""
    return int(min(LONGEST_WAIT, 2 ** min(failures - settings.LOGIN_ATTEMPTS, 30)))


def succeed(*, username: str, address: str) -> None:
    """The password was right: the count begins anew."""
    key = _key(username, address)
    try:
        _redis().delete(f"{key}:wait", f"{key}:tries")
    except redis.RedisError as exc:
        logger.warning("lockout not lifted: Redis does not answer", extra={"error": type(exc).__name__})


def _key(username: str, address: str) -> str:
    who = f"{username.casefold()}\n{site_of(address)}"
    return f"svops:login:{hashlib.sha256(who.encode()).hexdigest()}"


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
