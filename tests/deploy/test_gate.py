"""The gate runs what README and CONTRIBUTING promise."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.deploy.compose import REPOSITORY

GATE = REPOSITORY / ".ci" / "run"


def test_the_gate_can_be_started() -> None:
    assert os.access(GATE, os.X_OK)
    subprocess.run(["bash", "-n", GATE], check=True)


def test_the_gate_runs_the_test_command_of_the_readme() -> None:
    assert re.search(r"^ *make test\b", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    assert re.search(r"^step .* make test$", GATE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", ".ci/run", "docs/deployment.md"])
def test_every_named_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^step .* | {4})make ([a-z0-9-]+)", (REPOSITORY / page).read_text(), re.MULTILINE))

    assert named
    assert named <= targets
