"""Ports of this machine."""

from __future__ import annotations

import socket

from svops.local.errors import StartError


def free_port() -> int:
    """A port that nothing listens on; the kernel does not hand it out again soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a connection of the previous start that lingers in TIME_WAIT is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free(host: str, port: int, *, part: str, variable: str) -> None:
    """Refuse to start `part` on a port that is taken, and name the variable that moves it."""
    if not is_free(host, port):
        raise StartError(
            f"Port {port} on {host}, where {part} would listen, is taken: "
            f"stop what listens there, or set {variable} to another port."
        )
