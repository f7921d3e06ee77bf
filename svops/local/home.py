"""The directory that holds all state of an embedded platform: `SVOPS_HOME`."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from svops.local.errors import StartError

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_private(path: Path, text: str) -> None:
    """Replace the file at once; only its owner may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", opener=private_opener) as file:
        file.write(text)
    draft.replace(path)


class Home:
    """State, logs and secrets below one directory that only its owner may enter."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def directory(self, name: str) -> Path:
        self._make(self.path)
        path = self.path / name
        self._make(path)
        return path

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise StartError(
                f"{path} can not be created ({exc.strerror}): set SVOPS_HOME to a directory that can."
            ) from exc

    @property
    def logs(self) -> Path:
        return self.directory("logs")

    @property
    def sessions(self) -> Path:
        """Where the processes of a start are written down."""
        return self.directory("run") / "sessions.json"

    def secret(self, name: str) -> str:
        """The secret of that name; it is made when it is first asked for and kept."""
        kept = self.secret_file(name)
        if not kept.is_file():
            write_private(kept, secrets.token_urlsafe(32))
        return kept.read_text()

    def secret_file(self, name: str) -> Path:
        return self.directory("secrets") / name

    def write_runtime(self, values: Mapping[str, str]) -> None:
        """Tell `manage.py`, started beside the platform, where its parts are."""
        write_private(self._runtime, "".join(f"{name}={value}\n" for name, value in values.items()))

    def forget_runtime(self) -> None:
        self._runtime.unlink(missing_ok=True)

    @property
    def _runtime(self) -> Path:
        return self.path / "runtime.env"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home for this process alone; the lock ends with the process, however it ends."""
        with open(self.directory("run") / "lock", "a+", opener=private_opener) as file:
            try:
                # A POSIX lock, unlike flock's, is not inherited: a child that outlives us does not keep it.
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
