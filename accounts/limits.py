"""How often somebody may ask, counted in Redis for all processes together.

While Redis is away nothing is counted and everything is let through: a limit is a protection, not a right to check,
and its loss must not take the platform down. That is logged, and Redis is left alone for a moment.
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
from svops.errors import TooManyRequestsError

if TYPE_CHECKING:
    from rest_framework.views import APIView

logger = logging.getLogger(__name__)

AWAY = 5.0  # seconds for which a Redis that does not answer is not asked again


class Rate(StrEnum):
    """What is counted apart; `RATE_LIMIT_<NAME>` says how much of it."""

    API = "api"
    AUTH = "auth"
    INGEST = "ingest"
    STREAM = "stream"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What is left of a limit after this request."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int


class _Redis:
    """The counter, and until when it is not asked."""

    away_until = 0.0

    @staticmethod
    @cache
    def limiter() -> SlidingWindowCounterRateLimiter:
        url = settings.REDIS_URL.replace("unix://", "redis+unix://", 1)
        return SlidingWindowCounterRateLimiter(RedisStorage(url, socket_connect_timeout=1, socket_timeout=1))


def hit(rate: Rate, who: str) -> Usage | None:
    """Count a request of `who`; None where nothing is limited or can be counted."""
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
    """Count a request, and raise `TooManyRequestsError` when it is one too many."""
    usage = hit(rate, who)
    if usage and not usage.allowed:
        raise TooManyRequestsError("Too many requests; try again later.", retry_after=usage.reset_s)
    return usage


def by_address(request: HttpRequest) -> str:
    return f"address:{site_of(address_of(request))}"


def by_caller(caller: Caller) -> str:
    if caller.api_key_id is not None:
        return f"key:{caller.api_key_id}"
    return f"user:{caller.user.pk}" if caller.ticket_id is None else f"ticket:{caller.ticket_id}"


class RateThrottle(BaseThrottle):
    """The limit that a view names as `rate_limit`, else that of the API: per caller, or per address without one."""

    usage: Usage | None = None

    def allow_request(self, request: Request, view: APIView) -> bool:
        rate = getattr(view, "rate_limit", Rate.API)
        who = by_caller(request.auth) if isinstance(request.auth, Caller) else self._session_or_address(request)
        self.usage = hit(rate, who)
        request._request.rate_usage = self.usage  # type: ignore[attr-defined]  # for `rate_headers`
        return self.usage is None or self.usage.allowed

    def wait(self) -> float | None:
        return self.usage.reset_s if self.usage else None

    def _session_or_address(self, request: Request) -> str:
        return f"user:{request.user.pk}" if request.user.is_authenticated else by_address(request._request)


def rate_headers(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: what is left of the limit, in the headers that browsers and clients have come to know."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        usage: Usage | None = getattr(request, "rate_usage", None)
        if usage:
            response["RateLimit-Limit"] = str(usage.limit)
            response["RateLimit-Remaining"] = str(usage.remaining)
            response["RateLimit-Reset"] = str(usage.reset_s)
        return response

    return middleware
