"""docs/configuration.md agrees with the code."""

from __future__ import annotations

import re

import pytest

from tests.deploy import environment
from tests.deploy.compose import REPOSITORY

ROW = re.compile(r"^\| `(?P<name>[A-Z_0-9]+)` \| (?P<default>.*?) \| (?P<meaning>.+) \|$", re.MULTILINE)


def rows() -> dict[str, str]:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    return {row["name"]: row["default"] for row in ROW.finditer(page)}


def shown(default: object) -> str:
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_page_lists_exactly_the_variables_that_the_code_reads() -> None:
    assert set(rows()) == environment.names() - {"PATH"}


@pytest.mark.parametrize(
    "reading",
    [
        reading
        for reading in environment.readings()
        if reading.default is not environment.UNKNOWN and reading.default != ""
    ],
    ids=lambda reading: reading.name,
)
def test_the_page_names_the_default_of_the_code(reading: environment.Reading) -> None:
    assert rows()[reading.name] == shown(reading.default)
