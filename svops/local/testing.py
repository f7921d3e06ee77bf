"""Parts for as long as a test session lasts, run by `python -m svops.local serve` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from svops.local.errors import StartError
from svops.local.home import REPOSITORY

STOP_TIMEOUT = 40


class Served:
    """Parts that run until `stop`, or until this process is gone; `exports` tells how to reach them."""

    def __init__(self, *names: str, home: Path, env: Mapping[str, str] | None = None) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "svops.local", "serve", *names],
                cwd=REPOSITORY,
                env=dict(os.environ) | dict(env or {}) | {"SVOPS_HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # An interrupt of the tests is theirs: the parts end when our end of their input closes.
                start_new_session=True,
            )
            self._input, self._output = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
            line = self._output.readline()
            if not line:
                self.stop()
                errors.seek(0)
                raise StartError(errors.read().strip())
        self.exports: dict[str, str] = json.loads(line)

    def stop(self) -> None:
        """End the parts and wait until they have ended."""
        self._input.close()
        self._process.wait(timeout=STOP_TIMEOUT)
        self._output.close()
