"""The directory with all state of an embedded platform: `SVOPS_HOME`."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runner.errors import StartError

# One of these shows that a directory is a home of SVOps. `rest.env` has the same; a test compares the two.
OUR_FILES = frozenset({"secret_key", "svops.sqlite3", "secrets", "run", "logs", "airflow"})
REPOSITORY = Path(__file__).resolve().parent.parent


def private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; only its owner can read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", opener=private_opener) as file:
        file.write(text)
    draft.replace(path)


class Home:
    """State, logs and secrets in one directory that only its owner can enter."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def directory(self, name: str) -> Path:
        self._make(self.path)
        self._close()
        path = self.path / name
        self._make(path)
        return path

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path != self.path and path.stat().st_mode & 0o077:
                path.chmod(0o700)
        except OSError as exc:
            raise StartError(
                f"{path} cannot be created ({exc.strerror}): set SVOPS_HOME to a directory that can."
            ) from exc

    def _close(self) -> None:
        """Close a home that others can enter. Raises StartError if it is not only ours, such as `/tmp`."""
        mode = self.path.stat().st_mode
        if not mode & 0o077:
            return
        names = {entry.name for entry in self.path.iterdir()}
        if mode & stat.S_ISVTX or (names and not names & OUR_FILES):
            raise StartError(
                f"{self.path} is open to others and holds other files: set SVOPS_HOME to a directory of its own."
            )
        try:
            self.path.chmod(0o700)
        except OSError as exc:
            raise StartError(
                f"{self.path} is open to others and cannot be closed ({exc.strerror}): set SVOPS_HOME to another one."
            ) from exc

    @property
    def logs(self) -> Path:
        return self.directory("logs")

    @property
    def sessions(self) -> Path:
        """The file that lists the sessions of a start."""
        return self.directory("run") / "sessions.json"

    def secret(self, name: str) -> str:
        """Return the secret of that name. The first call creates and stores it."""
        kept = self.secret_file(name)
        if not kept.is_file():
            write_private(kept, secrets.token_urlsafe(32))
        return kept.read_text()

    def secret_file(self, name: str) -> Path:
        return self.directory("secrets") / name

    def write_runtime(self, values: Mapping[str, str]) -> None:
        """Store the addresses of the parts for a `manage.py` that runs beside the platform."""
        write_private(self._runtime, "".join(f"{name}={value}\n" for name, value in values.items()))

    def forget_runtime(self) -> None:
        self._runtime.unlink(missing_ok=True)

    @property
    def _runtime(self) -> Path:
        return self.path / "runtime.env"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the home for this process. The lock ends with the process, even if it is killed."""
        with open(self.directory("run") / "lock", "a+", opener=private_opener) as file:
            try:
                # Unlike flock's, a POSIX lock is not inherited: a child that outlives this process does not keep it.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                file.seek(0)
                raise HomeInUseError(self.path, owner=file.read().strip()) from exc
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


class HomeInUseError(StartError):
    def __init__(self, path: Path, *, owner: str) -> None:
        self.path = path
        super().__init__(
            f"SVOps already runs on {path} (process {owner}): stop it, or set SVOPS_HOME to another directory."
        )
