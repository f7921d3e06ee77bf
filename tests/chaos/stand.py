"""The whole platform on PostgreSQL. Each of its processes can be killed, frozen and started again."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.application import Application
from runner.home import Home
from runner.part import Command, Part
from runner.ports import free_port
from runner.postgres import SURVIVES_KILL, Postgres
from runner.redis import redis_part
from tests.chaos.journal import Journal
from tests.chaos.process import Process, until
from tests.chaos.side import LISTENS, Names, Side
from tests.chaos.wire import Wire

PASSWORD = "chaos, and long enough"
SWEEP = 15.0  # seconds between sweeps
# Nothing is heard of a task whose supervisor was killed, so its stop is complete only after this (default 600 s).
# Longer than the longest freeze.
STOP_SILENCE = 30.0
OWN = ("web", "worker", "beat", "redis", "postgres")


class Stand:
    """The platform below `folder`, with an Airflow for each of `names`, the first of which is the default one.

    `processes` are its parts by name, `wires` are the connections between them.
    """

    def __init__(self, folder: Path, names: Sequence[Names]) -> None:
        self.home = Home(folder)
        self.processes: dict[str, Process] = {}
        web = free_port()
        self._to_web = Wire(free_port(), web)
        self.url = f"http://127.0.0.1:{self._to_web.port}"
        self._database = Postgres(self.home, options=SURVIVES_KILL)
        homes = [self.home, *(Home(folder / one.name) for one in names[1:])]
        self.sides = [Side(home, one, web=web) for home, one in zip(homes, names, strict=True)]
        self.wires = {
            **{f"to {side.prefix}": side.way_in for side in self.sides},
            "to the web": self._to_web,
            **{f"from the listener of {side.prefix}": side.pushes for side in self.sides},
        }
        self.killed = (*OWN, *(name for side in self.sides for name in side.killed))
        self.frozen = (*OWN, *(name for side in self.sides for name in side.frozen))
        redis = redis_part(self.home)
        self.env = {**self._settings(folder), **redis.exports}
        # Application reads the settings of SVOps, and so does this process later.
        os.environ.update(self.env)
        self._application = Application(self.home, host="127.0.0.1", port=web, env=self.env, database=None)
        self._databases = [self._database, *(side.database for side in self.sides)]
        self._before = [*(database.part() for database in self._databases), redis]

    def _settings(self, folder: Path) -> dict[str, str]:
        return {
            "SVOPS_HOME": str(folder),
            "DATABASE_URL": self._database.url,
            **self.sides[0].settings(),
            "SVOPS_ADMIN_USERNAME": "root",
            "SVOPS_ADMIN_PASSWORD": PASSWORD,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ALLOWED_HOSTS": "127.0.0.1",
            "REGISTRATION": "closed",
            "NOTIFICATION_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOGIN_ATTEMPTS": "0",
            "ACCESS_TOKEN_SECONDS": "86400",
            "STREAM_HEARTBEAT": "5",
            "SWEEP_INTERVAL": f"{SWEEP:g}",
            "STOP_DEADLINE": "20",
            "STOP_SILENCE": f"{STOP_SILENCE:g}",
            **{f"RATE_LIMIT_{kind}": "off" for kind in ("API", "AUTH", "INGEST", "STREAM")},
        }

    def start(self, say: Callable[[str], None]) -> None:
        """Prepare and start everything. At the return each Airflow has read the DAGs of the chaos."""
        begun = time.monotonic()
        for wire in self.wires.values():
            wire.start()
        for database in self._databases:
            database.prepare()
        for part in self._before:
            self._start(part)
        self._wait()
        with ThreadPoolExecutor() as pool:
            preparations = [*(side.prepare for side in self.sides), self._application.prepare]
            for prepared in [pool.submit(prepare) for prepare in preparations]:
                prepared.result()
        say(f"databases are ready after {time.monotonic() - begun:.0f} s")
        for part in [*(part for side in self.sides for part in side.parts()), *self._application.parts()]:
            self._start(part)
        self._wait()
        for side in self.sides:
            until(side.has_dags, within=240, what=f"{side.prefix} has read the DAGs of the chaos")
        say(f"everything is ready after {time.monotonic() - begun:.0f} s")

    def _start(self, part: Part) -> None:
        for command in part.commands:
            log = self.home.logs / f"{command.name}.log"
            process = Process(command, log, self._readiness(part, command))
            self.processes[command.name] = process
            process.start()

    def _wait(self) -> None:
        for process in self.processes.values():
            process.wait_until_ready()

    def _readiness(self, part: Part, command: Command) -> Callable[[], bool]:
        # These two are ready as a part only once Airflow has been polled.
        waits = command.name not in {"worker", "beat"}
        return lambda: self.processes[command.name].is_alive and not (waits and part.waiting_for())

    def use_listener(self, is_on: bool, journal: Journal) -> None:
        """Start the scheduler and the API of each Airflow again with or without the listener: a short outage."""
        env = {} if is_on else {LISTENS: ""}
        for process in [self.processes[name] for side in self.sides for name in side.listening]:
            if process.env != env:
                with journal.fault("restart", process.name, injected=False):
                    process.kill()
                    process.env = env
                    process.start()
                    process.wait_until_ready()

    def tasks_at_work(self, *, within: float) -> list[int]:
        """Return the processes of tasks that have left a trace in the last seconds."""
        return [pid for side in self.sides for pid in side.tasks_at_work(within=within)]

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        for database in self._databases:
            database.remove()
