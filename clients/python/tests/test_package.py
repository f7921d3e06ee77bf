"""What is built, and what is made from other files."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from clients.python import make_async, make_events

HERE = Path(make_async.__file__).parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source distribution, built without a network."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(HERE)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_the_wheel_has_every_module_its_types_and_its_licence(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    source = HERE / "src"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")} | {"svops_client/py.typed"}
    about = "svops_client-0.1.0.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{about}/METADATA").decode()
        found = ConfigParser()
        found.read_string(archive.read(f"{about}/entry_points.txt").decode())
    entry_points = {section: dict(found[section]) for section in found.sections()}

    assert {name for name in names if not name.startswith(about)} == modules
    assert f"{about}/licenses/LICENSE" in names
    needed = {line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line}
    assert needed == {"Requires-Dist: httpx<1,>=0.27", "Requires-Dist: websockets>=15"}
    assert "Requires-Python: >=3.10" in metadata
    assert entry_points == {
        "console_scripts": {"svops": "svops_client.cli:main"},
        "pytest11": {"svops_client": "svops_client.pytest_plugin"},
    }


def test_the_source_distribution_has_no_tests(built: Path) -> None:
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        top = {name.split("/")[1] for name in opened.getnames()}

    assert top == {"src", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"} - {".gitignore"} | (
        top & {".gitignore"}
    )


def test_the_licence_is_that_of_the_platform() -> None:
    assert (HERE / "LICENSE").read_text() == (HERE.parents[1] / "LICENSE").read_text()


def test_the_events_are_those_of_the_platform() -> None:
    assert make_events.TARGET.read_text() == make_events.source(), "run `python clients/python/make_events.py`"


def test_the_async_client_is_made_from_the_other_one() -> None:
    assert make_async.TARGET.read_text() == make_async.source(), "run `python clients/python/make_async.py`"
