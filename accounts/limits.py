"""Rate limits, counted in Redis for all processes together.

While Redis does not answer, nothing is counted and every request passes: a limit protects the platform, and its loss
must not take the platform down. A warning is logged, and Redis is not asked again for a moment.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.addresses import address_of, site_of
from accounts.identity import Caller
from rest.errors import TooManyRequestsError

if TYPE_CHECKING:
    from rest_framework.views import APIView

logger = logging.getLogger(__name__)

# Set in the ASGI scope of a request, for `early_refusals`, if all requests of its caller are too many.
OVER_RATE = "svops.over_rate"
AWAY = 5.0  # seconds before a Redis that did not answer is asked again


class Rate(StrEnum):
    """Kinds of requests that are counted separately; `RATE_LIMIT_<NAME>` sets the limit of each."""

    API = "api"
    AUTH = "auth"
    INGEST = "ingest"
    STREAM = "stream"
    TEST = "test"
    RECIPIENT = "recipient"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How much of a limit is left after this request."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int


class _Redis:
    """The counter, and the time before which it is not asked."""

    away_until = 0.0

    @staticmethod
    @cache
    def limiter() -> SlidingWindowCounterRateLimiter:
        url = settings.REDIS_URL.replace("unix://", "redis+unix://", 1)
        return SlidingWindowCounterRateLimiter(RedisStorage(url, socket_connect_timeout=1, socket_timeout=1))


def hit(rate: Rate, who: str) -> Usage | None:
    """Count a request of `who`. Return None if nothing is limited or Redis does not answer."""
    limit = getattr(settings, f"RATE_LIMIT_{rate.name}")
    if limit == "off" or time.monotonic() < _Redis.away_until:
        return None
    item = parse(limit)
    try:
        allowed = _Redis.limiter().hit(item, "svops", rate, who)
        stats = _Redis.limiter().get_window_stats(item, "svops", rate, who)
    except RedisError as exc:
        _Redis.away_until = time.monotonic() + AWAY
        logger.warning("nothing is limited: Redis does not answer", extra={"error": type(exc).__name__})
        return None
    reset_s = max(1, math.ceil(stats.reset_time - time.time()))
    return Usage(allowed=allowed, limit=item.amount, remaining=stats.remaining, reset_s=reset_s)


def require(rate: Rate, who: str) -> Usage | None:
    """Count a request. Raises `TooManyRequestsError` if it is one too many."""
    usage = hit(rate, who)
    if usage and not usage.allowed:
        raise TooManyRequestsError("Too many requests; try again later.", retry_after=usage.reset_s)
    return usage


def by_address(request: HttpRequest) -> str:
    return f"address:{site_of(address_of(request))}"


def by_owner(caller: Caller) -> str:
    """Return whose requests are counted together: a user's, with all of their keys and tickets."""
    return f"user:{caller.user.pk}"


class RateThrottle(BaseThrottle):
    """Applies the limit that a view names as `rate_limit`, by default the API's, per caller or per address."""

    usage: Usage | None = None

    def allow_request(self, request: Request, view: APIView) -> bool:
        rate = getattr(view, "rate_limit", Rate.API)
        who = by_owner(request.auth) if isinstance(request.auth, Caller) else self._session_or_address(request)
        self.usage = hit(rate, who)
        request._request.rate_usage = self.usage  # type: ignore[attr-defined]  # for `rate_headers`
        is_allowed = self.usage is None or self.usage.allowed
        if rate == Rate.API and not is_allowed:
            getattr(request._request, "scope", {})[OVER_RATE] = True
        return is_allowed

    def wait(self) -> float | None:
        return self.usage.reset_s if self.usage else None

    def _session_or_address(self, request: Request) -> str:
        return f"user:{request.user.pk}" if request.user.is_authenticated else by_address(request._request)


def rate_headers(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: reports the rest of the limit in the usual `RateLimit-*` headers."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        usage: Usage | None = getattr(request, "rate_usage", None)
        if usage:
            response["RateLimit-Limit"] = str(usage.limit)
            response["RateLimit-Remaining"] = str(usage.remaining)
            response["RateLimit-Reset"] = str(usage.reset_s)
        return response

    return middleware
