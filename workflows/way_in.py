"""The way in to Airflow, from the settings, and what the processes of SVOps share on it: credentials and the pace."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.utils.crypto import salted_hmac

from rest.sealing import UnsealableError, seal, unseal
from workflows.airflow import Access, Password
from workflows.airflow import access as kinds
from workflows.airflow.credentials import Credentials, Keeper
from workflows.airflow.pace import OwnPace, Pace, too_many
from workflows.airflow.ways import is_kept, keep

logger = logging.getLogger(__name__)

# Seconds for which credentials without a known end are shared.
SHARED_FOR = 12 * 3600
# Gives a request the next free moment, in Redis' own time, and returns the seconds until then; -1: it is too far away.
RESERVE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local moment = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
if moment - now > tonumber(ARGV[2]) then return '-1' end
local kept = math.ceil((moment - now + ARGV[1]) * 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.6f', moment + ARGV[1]), 'PX', kept)
return string.format('%.6f', moment - now)
"""


def access() -> Access:
    """Return the way to the Airflow of the settings."""
    return Access(
        base_url=settings.AIRFLOW_URL,
        way=_way(),
        headers=tuple(settings.AIRFLOW_HEADERS.items()),
        ca_file=settings.AIRFLOW_CA_FILE,
        client_cert=settings.AIRFLOW_CLIENT_CERT,
        client_key=settings.AIRFLOW_CLIENT_KEY,
        proxy=settings.AIRFLOW_PROXY,
        requests_per_second=settings.AIRFLOW_MAX_REQUESTS_PER_SECOND,
        token_timeout=settings.AIRFLOW_TOKEN_TIMEOUT,
    )


def _way() -> kinds.Way:
    match settings.AIRFLOW_AUTH:
        case kinds.TOKEN:
            # The file is read when it is needed: it may change.
            file = settings.AIRFLOW_TOKEN_FILE
            return kinds.StaticToken(value="" if file else settings.AIRFLOW_TOKEN, file=file)
        case kinds.OAUTH2:
            return kinds.OAuth2(
                token_url=settings.AIRFLOW_OAUTH2_TOKEN_URL,
                client_id=settings.AIRFLOW_OAUTH2_CLIENT_ID,
                client_secret=settings.AIRFLOW_OAUTH2_CLIENT_SECRET,
                scope=settings.AIRFLOW_OAUTH2_SCOPE,
                audience=settings.AIRFLOW_OAUTH2_AUDIENCE,
                method=settings.AIRFLOW_OAUTH2_METHOD,
            )
        case kinds.GOOGLE:
            return kinds.Google(
                credentials_file=settings.AIRFLOW_GOOGLE_CREDENTIALS, audience=settings.AIRFLOW_GOOGLE_AUDIENCE
            )
        case kinds.MWAA:
            return kinds.Mwaa(environment=settings.AIRFLOW_MWAA_ENVIRONMENT, region=settings.AIRFLOW_MWAA_REGION)
        case kinds.COMMAND:
            return kinds.Command(
                argv=tuple(settings.AIRFLOW_TOKEN_COMMAND), environment=tuple(settings.AIRFLOW_TOKEN_COMMAND_ENV)
            )
        case _:
            return Password(username=settings.AIRFLOW_USERNAME, password=settings.AIRFLOW_PASSWORD)


@cache
def keeper(way_in: Access) -> Keeper | None:
    """Return what keeps the credentials for all clients of this process. None if each client has them itself."""
    return keep(way_in, SharedCredentials(way_in)) if is_kept(way_in) else None


@cache
def pace(way_in: Access) -> Pace | None:
    """Return the pace of all processes together. None: as fast as possible."""
    return SharedPace(way_in) if way_in.requests_per_second else None


class SharedCredentials:
    """In Redis, sealed. While Redis is away, each process has its own."""

    def __init__(self, way_in: Access) -> None:
        self._name = f"svops:airflow:credentials:{_fingerprint(way_in)}"
        self._limit = way_in.token_timeout
        self._redis: Any = _connection()

    def read(self) -> Credentials | None:
        try:
            sealed = self._redis.get(self._name)
            return _parsed(unseal(sealed.decode())) if sealed else None
        except (redis.RedisError, UnsealableError, KeyError, TypeError, ValueError) as exc:
            logger.warning("shared credentials for Airflow are not read", extra={"error": type(exc).__name__})
            return None

    def write(self, credentials: Credentials) -> None:
        end = credentials.expires_at
        seconds = SHARED_FOR if end is None else end - credentials.fetched_at
        body = {"headers": dict(credentials.headers), "fetched_at": credentials.fetched_at, "expires_at": end}
        with suppress(redis.RedisError):
            self._redis.set(self._name, seal(json.dumps(body)), px=max(1, int(seconds * 1000)))

    @contextmanager
    def turn(self) -> Iterator[None]:
        # Whoever holds it has two requests to send. Whoever waits for it asks alone in the end.
        lock = self._redis.lock(
            f"{self._name}:turn", timeout=2 * self._limit, blocking_timeout=self._limit, sleep=0.05, thread_local=False
        )
        try:
            is_ours = lock.acquire()
        except redis.RedisError:
            is_ours = False
        try:
            yield
        finally:
            if is_ours:
                with suppress(redis.RedisError):
                    lock.release()


class SharedPace:
    """Counted in Redis. While Redis is away, each process has this pace alone, and asks Redis only now and then."""

    AWAY = 5.0  # seconds

    def __init__(self, way_in: Access) -> None:
        self._name = f"svops:airflow:pace:{_fingerprint(way_in)}"
        self._gap = 1 / way_in.requests_per_second
        self._own = OwnPace(way_in.requests_per_second)
        self._alone_until = 0.0
        self._redis: Any = _connection()
        self._reserve = self._redis.register_script(RESERVE)

    def wait(self, at_most: float) -> None:
        if (seconds := self._shared(at_most)) is None:
            self._own.wait(at_most)
        elif seconds < 0:
            raise too_many()
        elif seconds > 0:
            time.sleep(seconds)

    def _shared(self, at_most: float) -> float | None:
        """Return in how many seconds our moment is, -1 if it is too far away, None if Redis is away."""
        if time.monotonic() < self._alone_until:
            return None
        try:
            return float(self._reserve(keys=[self._name], args=[self._gap, at_most]))
        except redis.RedisError:
            self._alone_until = time.monotonic() + self.AWAY
            return None


def _connection() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)


def _fingerprint(way_in: Access) -> str:
    """Name who we are where, so that credentials of another way in, or of a changed one, are not taken."""
    named = asdict(replace(way_in, requests_per_second=0.0, token_timeout=0.0))
    text = json.dumps([type(way_in.way).__name__, named], sort_keys=True)
    return salted_hmac("workflows.way_in", text, algorithm="sha256").hexdigest()[:32]


def _parsed(text: str) -> Credentials:
    body = json.loads(text)
    return Credentials(dict(body["headers"]), fetched_at=float(body["fetched_at"]), expires_at=body["expires_at"])
