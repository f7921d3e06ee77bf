"""The web process under attack, and what an attack costs it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import psutil

from tests.live.parts import Web

PATIENCE = 60.0


@dataclass
class Cost:
    """What the process spent while a block ran: seconds of CPU, and megabytes that it has more than before."""

    cpu_s: float = 0.0
    memory_mb: float = 0.0


class Target(Web):
    # What the attacks of the current test have cost; `make attack` shows it.
    costs: ClassVar[list[Cost]] = []

    @contextmanager
    def measured(self) -> Iterator[Cost]:
        process, cost = psutil.Process(self.pid), Cost()
        cpu, memory = _cpu(process), process.memory_info().rss
        Target.costs.append(cost)
        yield cost
        cost.cpu_s = _cpu(process) - cpu
        cost.memory_mb = (process.memory_info().rss - memory) / 1e6

    @property
    def memory_mb(self) -> float:
        rss: int = psutil.Process(self.pid).memory_info().rss
        return rss / 1e6

    def peers(self) -> set[tuple[str, int]]:
        """Return the addresses of the clients that are connected."""
        found = psutil.Process(self.pid).net_connections(kind="tcp")
        return {(one.raddr.ip, one.raddr.port) for one in found if one.status == psutil.CONN_ESTABLISHED}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are over a connection of their own, and return all bytes that come back."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return until_closed(connection)


def until_closed(connection: socket.socket) -> bytes:
    """Return what the server still sends before it closes the connection."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def _cpu(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)
