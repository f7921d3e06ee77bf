"""The Dockerfile: what goes into the image, and what it starts without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.conftest import DOCKERFILE


def environment_of_the_image() -> dict[str, str]:
    """The ENV lines of the last stage, with this environment's programs for those of the image."""
    stage = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    pairs = re.findall(r"(\w+)=(\S+)", "".join(re.findall(r"^ENV (.*)$", stage, re.MULTILINE)))
    return dict(pairs) | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"}


def test_packages_are_installed_only_by_the_hashes_of_the_lock_file() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE.read_text())

    assert installs == ["pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt"]


def test_the_image_holds_the_programs_but_no_tests_no_set_up_and_no_state(image: Path) -> None:
    files = {path.relative_to(image) for path in image.rglob("*") if path.is_file()}

    assert {path.parts[0] for path in files} == {"manage.py", "svops", "accounts", "workflows", "notifications"}
    assert not [path for path in files if {"tests", "local", "__pycache__"} & set(path.parts)]
    assert not [path for path in files if path.name.startswith(".") or path.suffix in {".pyc", ".sqlite3"}]


def test_the_image_holds_no_secret_and_does_not_start_without_one(image: Path) -> None:
    env = environment_of_the_image() | {"DATABASE_URL": "postgresql://svops@postgres/svops"}
    started = subprocess.run(
        ["python", "manage.py", "check"], cwd=image, env=env, capture_output=True, text=True, check=False
    )

    assert started.returncode == 1
    assert "SECRET_KEY is not set" in started.stderr.splitlines()[-1]
