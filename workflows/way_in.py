"""The way in to each Airflow, and what the processes of SVOps share on it: credentials and the pace.

That to the default one comes from the settings, and that to a further one from its row.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
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
from workflows.airflow.errors import AirflowUnavailableError
from workflows.airflow.invoked import MOST_PER_SECOND
from workflows.airflow.pace import OwnPace, Pace, too_many
from workflows.airflow.ways import is_kept, keep
from workflows.models import Airflow
from workflows.naming import DEFAULT
from workflows.options import TABLE

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


# The options of each way to an Airflow, as the settings AIRFLOW_… are called. The rows of further ones have them too.
OPTIONS = tuple(name for name in TABLE if name != "ingest_secret")
# How long a process goes on with the options that it has read.
OPTIONS_KEPT = 10.0  # seconds
_kept: dict[str, tuple[float, Mapping[str, Any]]] = {}


class InactiveError(AirflowUnavailableError):
    """There is no active Airflow of this name. That is no outage."""


def access(airflow: str) -> Access:
    """Return the way to an Airflow. Raises `InactiveError`, or `AirflowUnavailableError` if it cannot be read."""
    if airflow == DEFAULT:
        return _described({name: getattr(settings, f"AIRFLOW_{name.upper()}") for name in OPTIONS})
    return _described(_options_of(airflow))


def ingest_secret(airflow: str) -> str:
    """Return the secret that signs the pushes of an Airflow; "" if none may push. Raises as `access` does."""
    return str(settings.INGEST_SECRET if airflow == DEFAULT else _options_of(airflow).get("ingest_secret", ""))


def forget(airflow: str) -> None:
    """Read the options of an Airflow again when they are needed next, because this process has changed them."""
    _kept.pop(airflow, None)


def _options_of(airflow: str) -> Mapping[str, Any]:
    until, known = _kept.get(airflow, (0.0, {}))
    if until < time.monotonic():
        known = _stored(airflow)
        _kept[airflow] = (time.monotonic() + OPTIONS_KEPT, known)
    return known


def _stored(airflow: str) -> dict[str, Any]:
    row = Airflow.objects.active().filter(name=airflow).first()
    if row is None:
        raise InactiveError(f"there is no active Airflow named {airflow}", sent=False)
    try:
        secrets = json.loads(unseal(row.secrets)) if row.secrets else {}
    except UnsealableError as exc:
        raise AirflowUnavailableError(f"the way to {airflow} cannot be read: {exc}", sent=False) from exc
    return {**row.options, **secrets}


def _described(options: Mapping[str, Any]) -> Access:
    way = _way(options)
    return Access(
        base_url=options["url"],
        way=way,
        headers=tuple(options.get("headers", {}).items()),
        ca_file=options.get("ca_file", ""),
        client_cert=options.get("client_cert", ""),
        client_key=options.get("client_key", ""),
        proxy=options.get("proxy", ""),
        requests_per_second=_pace(options.get("max_requests_per_second", 0.0), way),
        token_timeout=options.get("token_timeout", settings.AIRFLOW_TOKEN_TIMEOUT),
    )


def _pace(given: float, way: kinds.Way) -> float:
    """Return the pace of all processes together, which AWS limits; 0 is no limit."""
    return min(given or MOST_PER_SECOND, MOST_PER_SECOND) if kinds.is_invoked(way) else given


def _way(options: Mapping[str, Any]) -> kinds.Way:
    match options.get("auth", kinds.PASSWORD):
        case kinds.TOKEN:
            # The file is read when it is needed: it may change.
            file = options.get("token_file", "")
            return kinds.StaticToken(value="" if file else options["token"], file=file)
        case kinds.OAUTH2:
            return kinds.OAuth2(
                token_url=options.get("oauth2_token_url", ""),
                client_id=options["oauth2_client_id"],
                client_secret=options["oauth2_client_secret"],
                scope=options.get("oauth2_scope", ""),
                audience=options.get("oauth2_audience", ""),
                method=options.get("oauth2_method", "client_secret_basic"),
            )
        case kinds.GOOGLE:
            return kinds.Google(
                credentials_file=options.get("google_credentials", ""), audience=options.get("google_audience", "")
            )
        case kinds.MWAA:
            return kinds.Mwaa(
                environment=options["mwaa_environment"],
                region=options.get("mwaa_region", ""),
                method=options.get("mwaa_method", kinds.WEB_TOKEN),
            )
        case kinds.COMMAND:
            environment = tuple(options.get("token_command_env", ()))
            return kinds.Command(argv=tuple(options["token_command"]), environment=environment)
        case _:
            return Password(username=options["username"], password=options["password"])


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
