"""From where a request comes."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# What one household or machine is given of IPv6: a limit per address would be one per packet.
IPV6_SITE = 64


def address_of(request: HttpRequest) -> str:
    """The client's address: the peer's, or what the outermost of `TRUST_PROXY` proxies has seen.

    Each proxy adds to the right of `X-Forwarded-For` whom it has seen; whatever stands further left is hearsay.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    hops = [hop.strip() for hop in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    if not 0 < settings.TRUST_PROXY <= len(hops):
        return peer
    with suppress(ValueError):
        return str(ip_address(hops[-settings.TRUST_PROXY]))
    return peer


def site_of(address: str) -> str:
    """What limits are counted by: an IPv4 address, or the network that an IPv6 address is in."""
    with suppress(ValueError):
        if ip_address(address).version == 6:
            return str(ip_network(f"{address}/{IPV6_SITE}", strict=False))
    return address
