"""The address that a request comes from."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# A household or machine gets a whole IPv6 network of this size and may use a new address for each packet.
IPV6_SITE = 64


def address_of(request: HttpRequest) -> str:
    """Return the client's address: the peer's, or the one that the outermost of `TRUST_PROXY` proxies reports.

    Each proxy appends the address of its own client to `X-Forwarded-For`. Entries further left come from the client
    and are not trusted.
    """
    return outermost(str(request.META.get("REMOTE_ADDR", "")), str(request.META.get("HTTP_X_FORWARDED_FOR", "")))


def outermost(peer: str, forwarded_for: str) -> str:
    """Return the client's address from the peer's and from what `X-Forwarded-For` says."""
    hops = [hop.strip() for hop in forwarded_for.split(",")]
    if not 0 < settings.TRUST_PROXY <= len(hops):
        return peer
    with suppress(ValueError):
        return str(ip_address(hops[-settings.TRUST_PROXY]))
    return peer


def site_of(address: str) -> str:
    """Return the unit that limits count by: an IPv4 address, or the network of an IPv6 address."""
    with suppress(ValueError):
        if ip_address(address).version == 6:
            return str(ip_network(f"{address}/{IPV6_SITE}", strict=False))
    return address
