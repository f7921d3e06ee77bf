"""The proxies in front of SVOps, and what is believed of their headers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Proxies:
    """Either how many there are, and then every peer is believed; or the networks that they are in."""

    count: int = 0
    networks: tuple[Network, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0 or bool(self.networks)

    def believe(self, peer: str) -> bool:
        """Return whether this peer may say for whom it asks."""
        return self.count > 0 or self._is_one(peer)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address. The peer is the client if it is not believed, or says nothing that makes sense.

        Each proxy appends the address of its own client to `X-Forwarded-For`. With networks, the client is the last
        one that is no proxy; with a count, the one at that place from the right. What stands further left comes from
        the client itself.
        """
        if not self.believe(peer):
            return peer
        hops = [hop.strip() for hop in forwarded_for.split(",")]
        if self.count:
            told = hops[-self.count] if self.count <= len(hops) else peer
        else:
            told = next((hop for hop in reversed(hops) if not self._is_one(hop)), hops[0])
        with suppress(ValueError):
            return str(ip_address(told))
        return peer

    def _is_one(self, address: str) -> bool:
        with suppress(ValueError):
            found = ip_address(address)
            return any(found in network for network in self.networks)
        return False
