"""`scripts/setup` makes environments, repairs them, and says in one sentence why it cannot."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner import sessions
from runner.home import REPOSITORY
from runner.tests.test_supervisor import eventually

LOCK_FILES = tuple(
    f"requirements{kind}.txt" for kind in ("", "-runner", "-dev", "-airflow", "-airflow-fab", "-airflow2")
)
TOOLS = ("sh", "cat", "date", "dirname", "grep", "mktemp", "rm", "sed", "sleep", "tail")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory with the script and with lock files that name no package."""
    clone = tmp_path / "clone"
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "setup", clone / "scripts")
    for name in LOCK_FILES:
        (clone / name).write_text("# nothing\n")
    return clone


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory to be the whole PATH: what a shell script needs, and no Python."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    return tools


def set_up(clone: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHON", "AIRFLOW_URL"}}
    # The Pythons of pyenv are those of the test, none, as long as it makes none.
    inherited["PYENV_ROOT"] = str(clone / "pyenv")
    return subprocess.run(
        [clone / "scripts" / "setup", *arguments],
        env=inherited | env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_both_environments_are_made_and_a_second_set_up_is_silent(clone: Path) -> None:
    first = set_up(clone, PYTHON=sys.executable)
    second = set_up(clone, PYTHON=sys.executable)

    assert first.stderr == ""
    assert [line for line in first.stdout.splitlines() if line.startswith("[")] == [
        f"[1/4] Creating .venv with {sys.executable}",
        "[2/4] Installing 0 packages of requirements-runner.txt into .venv",
        f"[3/4] Creating .venv-airflow with {sys.executable}",
        "[4/4] Installing 0 packages of requirements-airflow.txt into .venv-airflow",
    ]
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_tools_for_tests_include_what_the_platform_needs(clone: Path) -> None:
    assert set_up(clone, "--dev").returncode == 0

    assert set_up(clone).stdout == ""


def test_an_airflow_elsewhere_needs_no_environment_here(clone: Path) -> None:
    assert set_up(clone, AIRFLOW_URL="https://airflow.example.com").returncode == 0

    assert (clone / ".venv").is_dir()
    assert not (clone / ".venv-airflow").exists()


def test_a_changed_lock_file_is_installed_into_the_same_environment(clone: Path) -> None:
    set_up(clone)
    (clone / "requirements-runner.txt").write_text("# nothing, but another\n")

    again = set_up(clone)

    assert again.stdout.splitlines()[0] == "[2/2] Installing 0 packages of requirements-runner.txt into .venv"
    wanted = hashlib.sha256((clone / "requirements-runner.txt").read_bytes()).hexdigest()
    assert (clone / ".venv" / ".made-from-requirements-runner.txt").read_text() == f"{wanted}\n"


def test_an_environment_whose_python_is_gone_is_made_again(clone: Path) -> None:
    set_up(clone)
    for name in ("python", "python3"):
        (clone / ".venv" / "bin" / name).unlink()
        (clone / ".venv" / "bin" / name).symlink_to("/nowhere/python3")

    again = set_up(clone)

    assert again.stdout.startswith("[1/2] Creating .venv")
    assert subprocess.run([clone / ".venv" / "bin" / "python", "-c", ""], check=False).returncode == 0


def test_without_a_python_the_set_up_says_so(clone: Path, tools: Path) -> None:
    refused = set_up(clone, PATH=str(tools))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "svops set-up: no Python 3.11 to 3.13 was found: install one, or set PYTHON to where it is.\n"
    )
    assert not (clone / ".venv").exists()


def test_a_python_of_another_version_is_refused_by_name(clone: Path, tools: Path) -> None:
    executable(tools / "python3.10", "exit 1")

    refused = set_up(clone, PATH=str(tools), PYTHON="python3.10")

    assert refused.returncode == 1
    assert refused.stderr == "svops set-up: PYTHON=python3.10 is not a Python 3.11 to 3.13.\n"


def test_with_a_python_without_venv_the_set_up_says_so(clone: Path, tools: Path) -> None:
    executable(tools / "python3", f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"')

    refused = set_up(clone, PATH=str(tools))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"svops set-up: {tools}/python3 has no venv module: "
        "install it (on Debian and Ubuntu the package python3-venv).\n"
    )


def test_a_package_that_cannot_be_installed_is_shown_and_the_set_up_can_be_repeated(clone: Path, tools: Path) -> None:
    (clone / "requirements-runner.txt").write_text("./nowhere.whl --hash=sha256:00\n")

    refused = set_up(clone, PATH=str(tools), PYTHON=sys.executable)

    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "svops set-up: the packages of requirements-runner.txt could not be installed into .venv: see above.\n"
    )
    assert not list((clone / ".venv").glob(".made-from-*"))


@pytest.mark.parametrize(
    "tool", ["exec sleep 1000", "trap 'trap - TERM' TERM; : >{begun}; while :; do sleep 0.1; done"]
)
def test_an_interrupted_set_up_leaves_nothing_running_and_the_next_one_continues(
    clone: Path, tools: Path, tool: str
) -> None:
    # A Python that hangs where the environment would be made. The second one misses the first signal, as a process of
    # the shell does that has not yet become the tool. The first one may not have begun when the signal comes.
    begun = tools / "begun"
    hang = tool.format(begun=begun)
    executable(tools / "python3", f'case "$*" in "-m venv"*) {hang};; esac\nexec {sys.executable} "$@"')
    process = subprocess.Popen(
        [clone / "scripts" / "setup"],
        env={"PATH": str(tools)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"[1/4] Creating .venv with {tools}/python3\n"
    if str(begun) in hang:
        assert eventually(begun.exists)

    process.send_signal(signal.SIGTERM)
    # Reading to the end would wait for whatever still holds the output.
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert errors == "\nsvops set-up: interrupted; the next set-up continues.\n"
    assert eventually(lambda: not sessions.members(process.pid))
    assert set_up(clone).returncode == 0


@pytest.mark.parametrize(("option", "made"), [("--airflow2", ".venv-airflow2"), ("--airflow-fab", ".venv-airflow-fab")])
def test_another_airflow_has_an_environment_of_its_own_and_needs_no_other(clone: Path, option: str, made: str) -> None:
    assert set_up(clone, option).returncode == 0

    assert sorted(path.name for path in clone.glob(".venv*")) == [".venv", made]
    assert set_up(clone, option).stdout == ""


def test_another_python_has_an_environment_of_its_own_and_needs_no_airflow(clone: Path) -> None:
    version = f"3.{sys.version_info.minor}"

    assert set_up(clone, "--python", version, PYTHON=sys.executable).returncode == 0

    assert [path.name for path in clone.glob(".venv*")] == [f".venv-{version}"]
    assert set_up(clone, "--python", version).stdout == ""


def test_a_python_that_only_pyenv_has_is_found(clone: Path, tools: Path) -> None:
    version = f"3.{sys.version_info.minor}"
    python = clone / "pyenv" / "versions" / f"{version}.99" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)

    made = set_up(clone, "--python", version, PATH=str(tools))

    assert made.stdout.splitlines()[0] == f"[1/2] Creating .venv-{version} with {python}"
    assert made.returncode == 0


def test_another_python_that_this_machine_does_not_have_is_named(clone: Path, tools: Path) -> None:
    refused = set_up(clone, "--python", "3.13", PATH=str(tools))

    assert (refused.returncode, refused.stderr) == (3, "")
    assert refused.stdout == "svops set-up: no Python 3.13 was found: install it, or set PYTHON to where it is.\n"


def test_an_unknown_option_is_refused(clone: Path) -> None:
    refused = set_up(clone, "--fast")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "svops set-up: unknown option --fast: --dev, --airflow2, --airflow-fab, --airflow and --python are "
        "the only ones.\n"
    )


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "--airflow needs a version, such as 3.1.8."),
        ("3.x", "--airflow needs a version, such as 3.1.8."),
        ("3.1", "--airflow needs a version of Airflow 2 or 3, such as 3.1.8."),
        ("1.10.15", "--airflow needs a version of Airflow 2 or 3, such as 3.1.8."),
    ],
)
def test_what_is_no_version_of_airflow_is_refused(clone: Path, version: str, said: str) -> None:
    refused = set_up(clone, "--airflow", version)

    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"svops set-up: {said}\n")
    assert list(clone.glob(".venv-airflow*")) == []


def test_a_version_that_is_not_supported_is_refused(clone: Path) -> None:
    refused = set_up(clone, "--python", "3.9")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "svops set-up: --python needs 3.11, 3.12 or 3.13.\n"
