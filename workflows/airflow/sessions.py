"""Sessions of `requests` for the way to an Airflow: what they trust, which proxy they take, what they repeat."""

from __future__ import annotations

import ssl
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError

from .access import Access


class _DroppedConnections(Retry):
    """Repeat a GET once when the server has closed a kept-alive connection, never after a timeout."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Adapter(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext | None, pool_size: int) -> None:
        self._context = context
        retry = _DroppedConnections(total=1, connect=0, read=1, redirect=0, status=0, other=0, allowed_methods={"GET"})
        super().__init__(pool_connections=1, pool_maxsize=pool_size, pool_block=True, max_retries=retry)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {**options, "ssl_context": self._context} if self._context else options


def prepare(session: requests.Session, access: Access, *, pool_size: int = 1) -> None:
    """Let a session go this way. It keeps no cookies and takes nothing from the environment."""
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    if access.proxy:
        session.proxies = {"http": access.proxy, "https": access.proxy}
    adapter = _Adapter(_context(access), pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)


def _context(access: Access) -> ssl.SSLContext | None:
    """Return what differs from the usual TLS. None: nothing."""
    if not access.ca_file and not access.client_cert:
        return None
    context = ssl.create_default_context(cafile=certifi.where())
    if access.ca_file:
        context.load_verify_locations(cafile=access.ca_file)
    if access.client_cert:
        # A key with a password would otherwise be asked for on the terminal.
        context.load_cert_chain(access.client_cert, access.client_key or None, password="")
    return context
