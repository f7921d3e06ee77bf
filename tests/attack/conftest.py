"""One real web process to attack, as `make up` starts it, with limits that a test can reach and wait for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.target import Target
from tests.live.conftest import airflow, db, directory, loop, scripted_airflow
from tests.live.pushes import SECRET
from workflows.airflow.tests.scripted import ScriptedAirflow

__all__ = ["airflow", "db", "directory", "loop", "scripted_airflow"]

# Seconds. An attacker waits longer than these; a client on a busy machine does not come near them.
HEAD_TIMEOUT = 3
BODY_TIMEOUT = 4
STALL_TIMEOUT = 3
UNSIGNED_PER_ADDRESS = 20
UNSIGNED = 50
SHARED = 2
STREAMS_PER_USER = 120
PER_STREAM = 200  # messages in a minute
PER_USER = 1_100
READY_TOKEN = "a token of the probe"


@pytest.fixture(scope="package")
def web(directory: Path, scripted_airflow: ScriptedAirflow, db: None) -> Iterator[Target]:
    target = Target(
        directory,
        AIRFLOW_URL=scripted_airflow.url,
        AIRFLOW_USERNAME="admin",
        AIRFLOW_PASSWORD="admin",
        SVOPS_INGEST_SECRET=SECRET,
        # The addresses of the attackers are those of X-Forwarded-For.
        TRUST_PROXY="true",
        REQUEST_HEAD_TIMEOUT=str(HEAD_TIMEOUT),
        REQUEST_BODY_TIMEOUT=str(BODY_TIMEOUT),
        # A log that Airflow does not send is not waited for.
        LOG_WAIT="1",
        RESPONSE_STALL_TIMEOUT=str(STALL_TIMEOUT),
        SHARED_ANSWER_SECONDS=str(SHARED),
        READY_TOKEN=READY_TOKEN,
        STREAMS_PER_USER=str(STREAMS_PER_USER),
        STREAM_MESSAGES_PER_MINUTE=str(PER_STREAM),
        USER_MESSAGES_PER_MINUTE=str(PER_USER),
        STREAM_UNSIGNED=str(UNSIGNED),
        STREAM_UNSIGNED_PER_ADDRESS=str(UNSIGNED_PER_ADDRESS),
    )
    with target:
        yield target
