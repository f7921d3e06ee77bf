"""Ports of this machine."""

from __future__ import annotations

import random
import socket

from runner.errors import StartError

# Below the ports that operating systems choose for connections and for servers that ask for any port.
CHOICE = range(20_000, 32_000)
_held: list[int] = []


def free_port() -> int:
    """Return a port that nobody listens on. Other callers here do not get it while this process lives."""
    while True:
        port = random.choice(CHOICE)  # noqa: S311 - no secret
        if is_free("127.0.0.1", port) and _hold(port):
            return port


def _hold(port: int) -> bool:
    """Reserve the number for this process, by a UDP socket; TCP stays free. Return whether nobody had reserved it."""
    holder = socket.socket(type=socket.SOCK_DGRAM)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return False
    # Stays open until the process ends: kept as a number, since Python warns of sockets that are not closed.
    _held.append(holder.detach())
    return True


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # Servers set this too: a connection of an earlier start in TIME_WAIT does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(host: str, port: int, *, part: str, variable: str) -> None:
    """Raise StartError if the port of `part` is taken. The message names the variable that changes it."""
    if not is_free(host, port):
        raise StartError(
            f"Port {port} on {host} for {part} is taken: stop what listens there, or set {variable} to another port."
        )
