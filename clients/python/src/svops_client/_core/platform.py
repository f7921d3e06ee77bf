"""The platform as the operations know it: where it is, who asks, how patient the client is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from svops_client._core.credentials import Credentials

API = "/api/v1"


@dataclass(frozen=True, kw_only=True)
class Platform:
    """`retry_for`: seconds that one request is tried again; `patience`: seconds that a stream may be away."""

    base_url: str
    credentials: Credentials
    timeout: float = 30.0
    retry_for: float = 60.0
    patience: float = 300.0
    live: bool = True
    poll_pause: float = 2.0
    now: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
