"""Which IP addresses SVOps may connect to for a user. A leaf: it knows no Django.

The tables follow IANA's registries of special-purpose addresses for IPv4 and IPv6, and RFC 4291 (scopes), 6052 (NAT64),
8215 (local NAT64), 3056 (6to4), 4380 (Teredo) and 5214 (ISATAP). `ipaddress` knows only a part of them, and each Python
another part.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a carrier
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
# The only part of IPv6 that is global unicast, and what is special in it.
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: benchmarks, ORCHID, AS112 and others
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
]
# Networks that embed an IPv4 address, and its bit from the right: the inner address decides. Not here, and so never
# public: IPv4-compatible (::/96), IPv4-translated (::ffff:0:0:0/96) and local NAT64 (64:ff9b:1::/48), which lead to
# wherever the operator's own translator does.
_EMBEDDING = [
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
]
_TEREDO = ipaddress.IPv6Network("2001::/32")
# The second quarter of an ISATAP interface, with and without the bit for a global IPv4 address.
_ISATAP = {0x00005EFE, 0x02005EFE}


@dataclass(frozen=True)
class Policy:
    """Permits public addresses, and the networks that the operator allows."""

    allowed: tuple[IPNetwork, ...] = ()

    def permits(self, address: IPAddress) -> bool:
        return any(_within(address, network) for network in self.allowed) or is_public(address)


def _within(address: IPAddress, network: IPNetwork) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)


def is_public(address: IPAddress) -> bool:
    """Return whether the address, and every IPv4 address embedded in it, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if embedded := _embedded(address):
        return all(is_public(inner) for inner in embedded)
    return address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6) and _interface(address)


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    if address in _TEREDO:
        server, client = (int(address) >> 64) & 0xFFFFFFFF, ~int(address) & 0xFFFFFFFF
        return [ipaddress.IPv4Address(server), ipaddress.IPv4Address(client)]
    for network, shift in _EMBEDDING:
        if address in network:
            return [ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)]
    return []


def _interface(address: ipaddress.IPv6Address) -> bool:
    """Return whether the interface is no ISATAP one, or one with a public IPv4 address."""
    if (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP:
        return True
    return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
