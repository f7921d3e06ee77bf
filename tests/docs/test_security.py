"""The table of ASVS in docs/security.md: it is complete, and each test that it names exists."""

from __future__ import annotations

import re
from functools import cache

import pytest

from runner.home import REPOSITORY
from tests.attack.items import number_of

PAGE = (REPOSITORY / "docs/security.md").read_text()
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
# Requirements of level 2 in each section of ASVS 4.0.3. Those of level 3, and deleted numbers, are left out.
SECTIONS = {
    "2.1": 12, "2.2": 3, "2.3": 3, "2.4": 5, "2.5": 7, "2.6": 3, "2.7": 6, "2.8": 7, "2.9": 3, "2.10": 4,
    "3.1": 1, "3.2": 4, "3.3": 4, "3.4": 5, "3.5": 3, "3.7": 1, "4.1": 4, "4.2": 2, "4.3": 3,
    "5.1": 5, "5.2": 8, "5.3": 10, "5.4": 3, "5.5": 4, "7.1": 4, "7.2": 2, "7.3": 3, "7.4": 3,
    "8.1": 4, "8.2": 3, "8.3": 8, "9.1": 3, "9.2": 4, "13.1": 4, "13.2": 5, "13.3": 2, "13.4": 2,
}  # fmt: skip
ATTACKS = sorted(
    path.relative_to(REPOSITORY / "tests/attack").as_posix() for path in REPOSITORY.glob("tests/attack/**/test_*.py")
)


@cache
def source(path: str) -> str:
    return (REPOSITORY / path).read_text() if (REPOSITORY / path).is_file() else ""


def test_the_table_has_each_requirement_of_level_2_once() -> None:
    ids = [number for number, *_ in ROW.findall(PAGE)]

    assert len(ids) == len(set(ids))
    assert {section: sum(one.rpartition(".")[0] == section for one in ids) for section in SECTIONS} == SECTIONS
    assert len(ids) == sum(SECTIONS.values())


def test_each_named_test_exists() -> None:
    named = TEST.findall(PAGE)

    assert named
    assert [(path, name) for path, name in named if not re.search(rf"def {name}\(", source(path))] == []


@pytest.mark.parametrize("path", ATTACKS)
def test_each_attack_has_a_number(path: str) -> None:
    assert number_of(f"tests/attack/{path}") is not None
