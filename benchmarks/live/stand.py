"""A server with its Redis, clients and publisher, and one window of measurement on it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.live import processes, progress
from benchmarks.live.processes import OTHER_CORES, SERVER_CORES, BenchmarkError, started
from benchmarks.live.progress import Counted
from benchmarks.live.servers import Place, Plan, Server
from runner.testing import Served

CONNECT_TIMEOUT = 300
DRAIN_TIMEOUT = 60
WARM_UP_CLIENTS = 20
SETTLE = 1.0  # seconds that a server gets to become idle


@dataclass(frozen=True, kw_only=True)
class Window:
    """The counts of one window. Processor times are in seconds."""

    seconds: float
    counted: Counted
    server_cpu: float
    load_cpu: float
    publisher_cpu: float

    @property
    def rate(self) -> float:
        return self.counted.deliveries / self.seconds


class Stand:
    def __init__(self, server: Server, progress_file: Path, *, clients: int, memory_per_client: float) -> None:
        self.server = server
        self.clients = clients
        self.memory_per_client = memory_per_client
        self._progress_file = progress_file
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def attach(self, **started_processes: subprocess.Popen[bytes]) -> None:
        self._processes = started_processes

    def saturate(self, *, warm_up: float, seconds: float) -> Window:
        """Measure as many deliveries as the server can make, in closed loop."""
        return self._measure(f"closed {self.server.window} {self.server.batch}", warm_up=warm_up, seconds=seconds)

    def load(self, rate: float, *, warm_up: float, seconds: float) -> Window:
        """Measure deliveries at `rate` events per second, in open loop."""
        return self._measure(f"open {rate}", warm_up=warm_up, seconds=seconds)

    def counted(self) -> Counted:
        return progress.read(self._progress_file)

    def problem(self) -> str:
        """Return why the figures are not valid, or "" if each client received each event once and in order."""
        counted = self.counted()
        sent = self._order("pause")
        if counted.lost or counted.disordered or counted.closed:
            return f"{counted.lost} lost, {counted.disordered} out of order, {counted.closed} clients closed"
        return f"a client is at {counted.slowest} of {sent}" if counted.slowest != sent else ""

    def _measure(self, order: str, *, warm_up: float, seconds: float) -> Window:
        self._order(order)
        time.sleep(warm_up)
        began, before, cpu = time.monotonic(), self.counted(), self._cpu()
        time.sleep(seconds)
        elapsed, after = time.monotonic() - began, self.counted()
        used = {name: now - cpu[name] for name, now in self._cpu().items()}
        self._drain()
        return Window(
            seconds=elapsed,
            counted=after.since(before),
            server_cpu=used["server"],
            load_cpu=used["load"],
            publisher_cpu=used["publisher"],
        )

    def _drain(self) -> None:
        sent = self._order("pause")
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self.counted().slowest < sent and time.monotonic() < deadline:
            time.sleep(0.02)

    def _cpu(self) -> dict[str, float]:
        return {name: processes.cpu_seconds(process.pid) for name, process in self._processes.items()}

    def _order(self, order: str) -> int:
        publisher = self._processes["publisher"]
        assert publisher.stdin
        assert publisher.stdout
        publisher.stdin.write(f"{order}\n".encode())
        publisher.stdin.flush()
        answer = publisher.stdout.readline()
        if not answer:
            raise BenchmarkError(f"{self.server.name}: the publisher has ended")
        return int(answer)


@contextmanager
def standing(server: Server, *, directory: Path, port: int, clients: int, load: Path) -> Iterator[Stand]:
    """Run the server with connected clients during the block."""
    directory.mkdir()
    with ExitStack() as stack:
        redis = Served("redis", home=directory / "redis-home")
        stack.callback(redis.stop)
        place = Place(directory=directory, port=port, redis_url=redis.exports["REDIS_URL"], clients=clients)
        plan = server.plan(place)
        env = place.env | dict(plan.env)
        log = directory / "server.log"
        process = stack.enter_context(
            started(plan.command, log=log, cores=SERVER_CORES, env=env, cwd=server.repository)
        )
        processes.await_port(port, process, log=log)
        try:
            with _connected(load, plan, directory / "warm-up", port=port, clients=WARM_UP_CLIENTS):
                pass
        except BenchmarkError as exc:
            raise BenchmarkError(f"{server.name}: {exc}; its log ends: {processes.tail(log)}") from exc
        time.sleep(SETTLE)
        before = processes.memory_bytes(process.pid)
        progress_file = directory / "progress"
        clients_process = stack.enter_context(_connected(load, plan, progress_file, port=port, clients=clients))
        time.sleep(SETTLE)
        grown = processes.memory_bytes(process.pid) - before
        kind, *arguments = plan.source
        command = [sys.executable, "-m", "benchmarks.live.publisher", kind, str(progress_file), *arguments]
        log = directory / "publisher.log"
        publisher = stack.enter_context(
            started(command, log=log, cores=OTHER_CORES, env=env, cwd=server.repository, answers=True)
        )
        stand = Stand(server, progress_file, clients=clients, memory_per_client=grown / clients)
        stand.attach(server=process, load=clients_process, publisher=publisher)
        yield stand


@contextmanager
def _connected(
    load: Path, plan: Plan, progress_file: Path, *, port: int, clients: int
) -> Iterator[subprocess.Popen[bytes]]:
    log = progress_file.with_suffix(".log")
    protocols = progress_file.with_suffix(".protocols")
    protocols.write_text("".join(f"{line}\n" for line in plan.protocols))
    argv = [
        *(str(load), str(progress_file), "127.0.0.1", str(port)),
        *(plan.path, str(clients), str(protocols), plan.dialect),
    ]
    with started(argv, log=log, cores=OTHER_CORES) as process:
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while not progress_file.is_file() or not progress_file.stat().st_size:
            time.sleep(0.02)
        while (counted := progress.read(progress_file)).open < clients:
            if counted.closed or process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{counted.open} of {clients} clients connected; {processes.tail(log)}")
            time.sleep(0.02)
        yield process
