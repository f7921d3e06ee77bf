"""The environment of `docker-compose.yml` without Docker: the files of the image, and real servers."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from runner.testing import Served
from tests.deploy import compose

DOCKERFILE = compose.REPOSITORY / "Dockerfile"
FILL_IN = re.compile(r"```sh\n(\(umask 077\n.*?)```", re.DOTALL)


@pytest.fixture(scope="session")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.env` file that the command in docs/deployment.md creates."""
    folder = tmp_path_factory.mktemp("env")
    for name in (".env.example", "svops.env.example"):
        shutil.copy(compose.REPOSITORY / name, folder)
    documented = FILL_IN.search((compose.REPOSITORY / "docs" / "deployment.md").read_text())
    assert documented is not None
    subprocess.run(["sh", "-c", documented[1]], cwd=folder, check=True)
    return folder / ".env"


@pytest.fixture(scope="session")
def services(env_file: Path) -> dict[str, dict[str, Any]]:
    return compose.services(*(compose.read_env(env_file.with_name(name).read_text()) for name in (".env", "svops.env")))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the image, built by the COPY lines of the Dockerfile."""
    folder = tmp_path_factory.mktemp("image")
    copied = DOCKERFILE.read_text().partition("\nWORKDIR /opt/svops/app\n")[2].partition("\nFROM ")[0]
    for source, target in re.findall(r"^COPY (\S+) (\S+)$", copied, re.MULTILINE):
        path = compose.REPOSITORY / source
        if path.is_dir():
            shutil.copytree(path, folder / target, ignore=_ignored)
        else:
            shutil.copy(path, folder / target)
    return folder


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Return the names that .dockerignore excludes inside the directories that it includes."""
    lines = (compose.REPOSITORY / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith(("#", "!")) and line != "*"]
    return {name for name in names if _excluded(Path(folder, name).relative_to(compose.REPOSITORY), patterns)}


def _excluded(path: Path, patterns: list[str]) -> bool:
    return any(
        path.name == pattern.removeprefix("**/") if pattern.startswith("**/") else fnmatch.fnmatch(str(path), pattern)
        for pattern in patterns
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real PostgreSQL with the database of the file, and a real Redis: their `.env` variables and addresses."""
    served = Served("postgres", "redis", home=tmp_path_factory.mktemp("servers"))
    database, redis = urlsplit(served.exports["DATABASE_URL"]), urlsplit(served.exports["REDIS_URL"])
    with psycopg.connect(served.exports["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE svops")
    yield {
        "POSTGRES_PASSWORD": database.password or "",
        "REDIS_PASSWORD": redis.password or "",
        "postgres": f"{database.hostname}:{database.port}",
        "redis": f"{redis.hostname}:{redis.port}",
    }
    served.stop()
