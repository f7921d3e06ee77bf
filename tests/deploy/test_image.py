"""The Dockerfile: the contents of the image, and its start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.compose import REPOSITORY
from tests.deploy.conftest import DOCKERFILE


def environment_of_the_image() -> dict[str, str]:
    """Return the ENV lines of the last stage, with the programs of this environment in place of the image's."""
    stage = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    pairs = re.findall(r"(\w+)=(\S+)", "".join(re.findall(r"^ENV (.*)$", stage, re.MULTILINE)))
    return dict(pairs) | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin"}


def test_packages_are_installed_only_with_the_hashes_of_the_lock_file() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE.read_text())

    assert installs == ["pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt"]


def test_the_lock_file_with_the_extras_has_the_versions_of_the_other_and_reaches_the_builder() -> None:
    plain, with_extras = (_locked(f"requirements{kind}.txt") for kind in ("", "-ways"))

    assert plain < with_extras
    assert {"google-auth", "botocore"} <= {line.partition("==")[0] for line in with_extras - plain}
    assert {"!requirements.txt", "!requirements-ways.txt"} <= set((REPOSITORY / ".dockerignore").read_text().split())


def _locked(name: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==\S+", (REPOSITORY / name).read_text(), re.MULTILINE))


def test_the_image_holds_the_programs_but_no_tests_no_set_up_and_no_state(image: Path) -> None:
    files = {path.relative_to(image) for path in image.rglob("*") if path.is_file()}

    assert {path.parts[0] for path in files} == {
        "manage.py",
        "svops",
        "rest",
        "accounts",
        "workflows",
        "notifications",
        "console",
    }
    assert not [path for path in files if {"tests", "conftest.py", "runner", "__pycache__"} & set(path.parts)]
    assert not [path for path in files if path.name.startswith(".") or path.suffix in {".pyc", ".sqlite3"}]


def test_the_image_holds_no_secret_and_does_not_start_without_one(image: Path) -> None:
    env = environment_of_the_image() | {"DATABASE_URL": "postgresql://svops@postgres/svops"}
    started = subprocess.run(
        ["python", "manage.py", "check"], cwd=image, env=env, capture_output=True, text=True, check=False
    )

    assert started.returncode == 1
    assert "SECRET_KEY is not set" in started.stderr.splitlines()[-1]


def test_the_notices_name_every_package_with_its_licence(tmp_path: Path) -> None:
    """The Dockerfile makes them for the packages of the image in the same way."""
    subprocess.run([sys.executable, "scripts/notices", str(tmp_path / "notices")], cwd=REPOSITORY, check=True)

    text = (tmp_path / "notices").read_text()
    licences = dict(re.findall(r"^(\S+) [0-9]\S*\nLicense: (.+)$", text, re.MULTILINE))
    assert licences["Django"] == "BSD-3-Clause"
    assert licences["requests"] != ""
    assert "Redistribution and use in source and binary forms" in text
    assert {"django", "celery", "apprise", "redis", "pyotp"} <= {name.lower() for name in licences}


def test_the_image_has_what_was_copied_readable_for_everybody() -> None:
    """Before: with a umask of 077, as the documentation had it, the image could not start."""
    build, _, final = DOCKERFILE.read_text().rpartition("\nFROM ")

    assert build.rstrip().endswith("\nRUN chmod -R a+rX /opt/svops/app")
    assert "COPY --from=build /opt/svops/app ./" in final.splitlines()
    assert not re.search(r"^COPY (?!--from)", final, re.MULTILINE)
