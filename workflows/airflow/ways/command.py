"""A program that prints a token: for every way in that SVOps does not know itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime

from ..access import Access, Command
from ..credentials import Credentials
from ..errors import AirflowUnavailableError
from .tokens import SENDABLE, bearer, seconds

# What programs need on a machine. The rest of our environment holds secrets that are not theirs.
NEEDED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LC_ALL"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LD_LIBRARY_PATH"),
)


class Source:
    def __init__(self, access: Access, way: Command) -> None:
        self._limit, self._way = access.token_timeout, way

    def fetch(self) -> Credentials:
        now = time.time()
        output = self._run().strip()
        if not output.startswith("{"):
            return _credentials(output, now=now, expires_at=None)
        try:
            answer = json.loads(output)
        except ValueError as exc:
            raise _failed("its output begins as JSON and is none") from exc
        return _credentials(answer.get("token"), now=now, expires_at=_end(answer, now))

    def _run(self) -> str:
        environment = {name: os.environ[name] for name in (*NEEDED, *self._way.environment) if name in os.environ}
        try:
            # What it says on its standard error may repeat a secret. A session of its own: its children end with it.
            process = subprocess.Popen(  # noqa: S603 - the operator's program, without a shell
                self._way.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise _failed(f"it cannot be started, {exc.strerror}") from exc
        try:
            output, _ = process.communicate(timeout=self._limit)
        except subprocess.TimeoutExpired as exc:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise _failed(f"it took more than {self._limit:g} s") from exc
        if process.returncode != 0:
            raise _failed(f"it ended with exit code {process.returncode}")
        return output.decode(errors="replace")


def _credentials(token: object, *, now: float, expires_at: float | None) -> Credentials:
    if not isinstance(token, str) or not SENDABLE.fullmatch(token):
        raise _failed("it printed no token")
    return bearer(token, now=now, expires_at=expires_at)


def _end(answer: dict[str, object], now: float) -> float | None:
    """Return when the token ends, by its printer's words: `expires_in` seconds, or `expires_at` a moment."""
    if "expires_in" in answer:
        lifetime = seconds(answer["expires_in"])
        if lifetime is None:
            raise _failed("expires_in is no number of seconds")
        return now + lifetime
    moment = answer.get("expires_at")
    if moment is None or (end := seconds(moment)) is not None:
        return None if moment is None else end
    try:
        parsed = datetime.fromisoformat(moment if isinstance(moment, str) else "")
    except ValueError as exc:
        raise _failed("expires_at is neither seconds since 1970 nor a time like 2030-01-31T12:00:00Z") from exc
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _failed(why: str) -> AirflowUnavailableError:
    return AirflowUnavailableError(f"the command of AIRFLOW_TOKEN_COMMAND gives no token ({why})", sent=False)
