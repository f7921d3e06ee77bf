"""A web process that stops ends its streams, so that their readers go on elsewhere."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import requests

from accounts.models import User
from tests.live.conftest import token_of
from tests.live.parts import Web


def test_server_sent_events_end_with_a_last_message_and_the_time_to_come_back(directory: Path, ada: User) -> None:
    """Before: they held the stop for its whole grace period, and then broke off."""
    with Web(directory) as web:
        headers = {"Authorization": f"Bearer {token_of(ada)}"}
        answer = requests.get(f"{web.url}/api/v1/events/stream", headers=headers, timeout=60, stream=True)
        lines = answer.iter_lines(decode_unicode=True)
        assert "event: connection.ready" in [next(lines) for _ in range(3)]

        os.kill(web.pid, signal.SIGTERM)

        *_, retry, event, data, blank = list(lines)

    assert (event, blank) == ("event: error", "")
    assert json.loads(data.removeprefix("data: ")) == {"code": "restarting", "close_code": 1012}
    assert 500 <= int(retry.removeprefix("retry: ")) <= 5000
