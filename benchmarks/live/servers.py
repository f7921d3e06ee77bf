"""The servers that are measured: what each needs, how it starts, and how clients and events reach it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.live.processes import BenchmarkError

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
NODE_MODULES = REPOSITORY / ".svops" / "bench" / "node_modules"
NCHAN = Path("/usr/lib/nginx/modules")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server runs."""

    directory: Path
    port: int
    redis_url: str
    clients: int

    @property
    def env(self) -> dict[str, str]:
        """The environment of SVOps' processes. Other servers ignore it."""
        return {
            "REDIS_URL": self.redis_url,
            "SVOPS_HOME": str(self.directory),
            "DJANGO_SETTINGS_MODULE": "svops.settings",
            "ACCESS_TOKEN_SECONDS": "7200",
            "LOG_LEVEL": "WARNING",
            # All clients of the benchmark come from one address, as many at a time as its window allows.
            "STREAM_UNSIGNED": "100000",
            "STREAM_UNSIGNED_PER_ADDRESS": "100000",
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to run a server. `source` are the publisher's arguments, `protocols` the sub-protocols of each client."""

    command: Sequence[str]
    path: str
    source: Sequence[str]
    protocols: Sequence[str] = ()
    dialect: str = "plain"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Server:
    """`window` and `batch` of the closed loop are so large that larger ones make the server no faster."""

    name: str
    window: int
    batch: int
    plan: Callable[[Place], Plan]
    missing: Callable[[], str] = lambda: ""
    repository: Path = REPOSITORY


def beside(checkout: Path) -> Server:
    """Return SVOps on uvicorn from another checkout, to compare two versions in one run."""
    ours = replace(SERVERS[0], name=f"SVOps, uvicorn, in {checkout.name}", repository=checkout.resolve())
    return ours if (checkout / "svops" / "server.py").is_file() else replace(ours, plan=_svops(_plain_uvicorn))


def _svops(command: Callable[[Place], list[str]]) -> Callable[[Place], Plan]:
    def plan(place: Place) -> Plan:
        shutil.copytree(_prepared_home(place), place.directory, dirs_exist_ok=True)
        data = json.loads((place.directory / "data.json").read_text())
        return Plan(
            command=[sys.executable, "-m", *command(place)],
            path=f"/api/v1/ws/workflow/{data['workflow_id']}",
            protocols=[f"svops.v1, bearer.{token}" for token in data["tokens"]],
            source=["svops", data["run_id"]],
        )

    return plan


def _prepared_home(place: Place) -> Path:
    """Return a home with a migrated database and a user for each client. It is made once."""
    home = place.directory.parent / "svops-home"
    if not home.is_dir():
        home.mkdir()
        beside = replace(place, directory=home)
        _python(beside, "manage.py", "migrate", "--no-input", "--verbosity", "0")
        (home / "data.json").write_text(_python(beside, "-m", "benchmarks.live.svops_data", str(place.clients)))
    return home


def _python(place: Place, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=dict(os.environ) | place.env,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise BenchmarkError(f"{' '.join(arguments)} failed: {ended.stderr.strip()[-500:]}")
    return ended.stdout


def _uvicorn(place: Place) -> list[str]:
    # As `make up` starts it.
    return ["svops.server", "--host", "127.0.0.1", "--port", str(place.port)]


def _plain_uvicorn(place: Place) -> list[str]:
    # As `make up` started it before there was `svops.server`.
    return [
        *("uvicorn", "svops.asgi:application", "--host", "127.0.0.1", "--port", str(place.port)),
        *("--ws-per-message-deflate", "false", "--no-server-header"),
    ]


def _daphne(place: Place, application: str = "svops.asgi:application") -> list[str]:
    return ["daphne", "--bind", "127.0.0.1", "--port", str(place.port), "--verbosity", "0", application]


def _plain_channels(place: Place) -> Plan:
    return Plan(
        command=[sys.executable, "-m", *_daphne(place, "benchmarks.live.plain_channels:application")],
        path="/",
        source=["channels", place.redis_url],
    )


def _bare(place: Place) -> Plan:
    return Plan(
        command=[sys.executable, "-m", "benchmarks.live.bare_server", str(place.port), place.redis_url],
        path="/",
        source=["bare", place.redis_url],
    )


def _socketio(place: Place) -> Plan:
    return Plan(
        command=["node", str(HERE / "socketio_server.js"), str(place.port), place.redis_url],
        path="/socket.io/?EIO=4&transport=websocket",
        source=["socketio", place.redis_url],
        dialect="socketio",
        env={"NODE_PATH": str(NODE_MODULES), "NODE_ENV": "production"},
    )


def _without_socketio() -> str:
    packages = ("socket.io", "@socket.io/redis-adapter", "redis")
    if shutil.which("node") and all((NODE_MODULES / package).is_dir() for package in packages):
        return ""
    return f"install Node.js, then: npm install --prefix .svops/bench {' '.join(packages)}"


def _nchan(place: Place) -> Plan:
    config = place.directory / "nginx.conf"
    template = (HERE / "nginx.conf").read_text()
    config.write_text(template.format(directory=place.directory, port=place.port, modules=NCHAN))
    return Plan(
        command=["nginx", "-p", str(place.directory), "-c", str(config)],
        path="/subscribe",
        source=["nchan", str(place.port)],
    )


def _without_nchan() -> str:
    if shutil.which("nginx") and (NCHAN / "ngx_nchan_module.so").is_file():
        return ""
    return "install it, on Debian: apt-get install nginx-light libnginx-mod-nchan"


OURS = "SVOps, uvicorn"
PLAIN = "plain Channels, daphne"
BARE = "bare asyncio protocol"

SERVERS = [
    Server(name=OURS, window=512, batch=128, plan=_svops(_uvicorn)),
    Server(name="SVOps, daphne", window=512, batch=128, plan=_svops(_daphne)),
    Server(name=PLAIN, window=4, batch=1, plan=_plain_channels),
    Server(name="Socket.IO", window=128, batch=16, plan=_socketio, missing=_without_socketio),
    Server(name="nginx-nchan", window=256, batch=16, plan=_nchan, missing=_without_nchan),
    Server(name=BARE, window=512, batch=128, plan=_bare),
]
