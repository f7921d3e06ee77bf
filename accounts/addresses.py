"""The address that a request comes from."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# A household or machine gets a whole IPv6 network of this size and may use a new address for each packet.
IPV6_SITE = 64


def address_of(request: HttpRequest) -> str:
    """Return the client's address: the peer's, or the one that the proxies of `TRUST_PROXY` report."""
    return client_of(str(request.META.get("REMOTE_ADDR", "")), str(request.META.get("HTTP_X_FORWARDED_FOR", "")))


def client_of(peer: str, forwarded_for: str) -> str:
    """Return the client's address from the peer's and from what `X-Forwarded-For` says."""
    return settings.TRUST_PROXY.client_of(peer, forwarded_for)


def site_of(address: str) -> str:
    """Return the unit that limits count by: an IPv4 address, or the network of an IPv6 address."""
    with suppress(ValueError):
        if ip_address(address).version == 6:
            return str(ip_network(f"{address}/{IPV6_SITE}", strict=False))
    return address
