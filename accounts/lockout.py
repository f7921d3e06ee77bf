"""Slows down somebody who guesses passwords, and locks nobody out.

Two counts, both for the name as typed, whether or not the user exists:

- Per account *and* address: from the `LOGIN_ATTEMPTS`-th failure in a row on, each try from there has to wait twice as
  long as the one before.
- Per account, over all addresses: from `LOGIN_ATTEMPTS_ACCOUNT` failures within an hour on, each address that the
  account has not signed in from lately has to wait once before each try, however many addresses there are. It waits a
  quarter of an hour at most, and is let in then. Known addresses do not wait. So the owner always gets in.

While Redis does not answer, nothing is counted.
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from functools import cache
from typing import Any

import redis
from django.conf import settings

from accounts.addresses import site_of
from rest.backoff import doubling
from rest.errors import TooManyRequestsError

logger = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=15)
FORGOTTEN_AFTER = 3600
# How long an address stays known after a sign-in.
KNOWN_FOR = 90 * 86400
# An address has this long to use the try that it has waited for.
TURN_LASTS = 3600


class LockedOutError(TooManyRequestsError):
    """Too many tries for this account. The error does not say whether the account exists."""

    code = "locked_out"


def begin(*, username: str, address: str) -> None:
    """Count a try before its password is checked. Raises `LockedOutError` if it comes too early."""
    if not settings.LOGIN_ATTEMPTS:
        return
    try:
        wait = _begin_account(username, address) or _begin(_key(username, address))
    except redis.RedisError as exc:
        logger.warning("no lockout: Redis does not answer", extra={"error": type(exc).__name__})
        return
    if wait:
        raise LockedOutError("Too many tries; try again later.", retry_after=wait)


def _begin(key: str) -> int:
    """Return the seconds that this try has to wait; 0 lets it pass."""
    # Any: the stubs have one return type for the blocking and the asynchronous client.
    connection: Any = _redis()
    if (left := int(connection.pttl(f"{key}:wait"))) > 0:
        return -(-left // 1000)
    failures = int(connection.incr(f"{key}:tries"))
    connection.expire(f"{key}:tries", FORGOTTEN_AFTER)
    if failures < settings.LOGIN_ATTEMPTS:
        return 0
    wait = wait_after(failures)
    # Set before the password is checked, so that only one of many simultaneous tries passes.
    return 0 if connection.set(f"{key}:wait", 1, ex=wait, nx=True) else wait


def _begin_account(username: str, address: str) -> int:
    """Return the seconds that a try from an unknown address has to wait while the account is under attack."""
    connection: Any = _redis()
    account, key = _account(username), _key(username, address)
    if not settings.LOGIN_ATTEMPTS_ACCOUNT or connection.exists(f"{key}:known"):
        return 0
    failures = int(connection.get(f"{account}:tries") or 0)
    if failures >= settings.LOGIN_ATTEMPTS_ACCOUNT and (wait := _wait_for_turn(f"{key}:turn", failures)):
        return wait
    connection.incr(f"{account}:tries")
    connection.expire(f"{account}:tries", FORGOTTEN_AFTER)
    return 0


def _wait_for_turn(turn: str, failures: int) -> int:
    """Return the seconds until this address may try; 0 uses its turn up. The first call starts the wait."""
    connection: Any = _redis()
    wait = wait_of_account(failures)
    # Only here and for this address: with one turn for all, an attacker would take each, and lock the owner out.
    if connection.set(turn, time.time() + wait, ex=wait + TURN_LASTS, nx=True):
        return wait
    left = float(connection.get(turn) or 0) - time.time()
    if left > 0:
        return max(1, round(left))
    # Of many simultaneous tries, the one that deletes the turn passes.
    return 0 if connection.delete(turn) else wait


def wait_after(failures: int) -> int:
    """Return the seconds between this try and the next, from one address."""
    tries = failures - settings.LOGIN_ATTEMPTS + 1
    return int(doubling(tries, first=FIRST_WAIT, longest=LONGEST_WAIT).total_seconds())


def wait_of_account(failures: int) -> int:
    """Return the seconds that an unknown address waits: twice as long for each further `LOGIN_ATTEMPTS_ACCOUNT`."""
    rounds = failures // settings.LOGIN_ATTEMPTS_ACCOUNT
    return int(doubling(rounds, first=10 * FIRST_WAIT, longest=LONGEST_WAIT).total_seconds())


def succeed(*, username: str, address: str) -> None:
    """Reset the count of the address after a right password, and know the address from now on."""
    key = _key(username, address)
    try:
        connection: Any = _redis()
        connection.delete(f"{key}:wait", f"{key}:tries", f"{key}:turn")
        if not connection.exists(f"{key}:known") and int(connection.get(f"{_account(username)}:tries") or 0) > 0:
            # The try was counted before it turned out to be right.
            connection.decr(f"{_account(username)}:tries")
        connection.set(f"{key}:known", 1, ex=KNOWN_FOR)
    except redis.RedisError as exc:
        logger.warning("lockout not lifted: Redis does not answer", extra={"error": type(exc).__name__})


def _key(username: str, address: str) -> str:
    who = f"{username.casefold()}\n{site_of(address)}"
    return f"svops:login:{_digest(who)}"


def _account(username: str) -> str:
    return f"svops:login:account:{_digest(username.casefold())}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
