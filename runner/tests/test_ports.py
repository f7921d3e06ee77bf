"""A free port is given to one process only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from runner import ports
from runner.errors import StartError
from runner.home import REPOSITORY

ANOTHER = "from runner.ports import free_port; print(free_port(), flush=True); input()"


def test_a_process_gets_each_port_once() -> None:
    given = [ports.free_port() for _ in range(100)]

    assert len(set(given)) == 100
    assert all(ports.is_free("127.0.0.1", port) for port in given)


def test_a_port_that_a_living_process_was_given_is_not_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        theirs = int(process.stdout.readline())
        another = ports.free_port()
        os.close(ports._held.pop())
        # All ports but these two are out of reach.
        monkeypatch.setattr(ports, "CHOICE", [theirs, another])

        assert ports.is_free("127.0.0.1", theirs)
        assert ports.free_port() == another
        process.communicate("\n")


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert not ports.is_free("127.0.0.1", port)
        with pytest.raises(StartError, match=f"^Port {port} on 127.0.0.1"):
            ports.require_free("127.0.0.1", port, part="SVOps", variable="SVOPS_PORT")
