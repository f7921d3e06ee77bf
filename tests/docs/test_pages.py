"""The pages of the documentation against the code: what they name exists, and where they link to."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    page.relative_to(REPOSITORY).as_posix() for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
)
MAPS = ["docs/architecture.md", "docs/glossary.md", "docs/security.md"]
# Names on a page are relative to one of these.
ROOTS = [REPOSITORY, REPOSITORY / "tests/attack"]
PACKAGES = ("svops", "rest", "accounts", "workflows", "notifications", "console", "runner")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PATH = re.compile(r"(?!\.venv)[\w.-]+(/[\w.-]+)*(/|\.(py|js|md|svg|toml))")
# Not the ids of system checks, such as `workflows.W001`.
NAME = re.compile(rf"({'|'.join(PACKAGES)})(\.(?!W\d)\w+)+")
DECISIONS = sorted(path for path in REPOSITORY.glob("docs/adr/*.md") if not path.name.startswith("0000"))


def text_of(page: str) -> str:
    return CODE_BLOCK.sub("", (REPOSITORY / page).read_text())


def named_in(page: str, kind: re.Pattern[str]) -> list[str]:
    return sorted({code for code in CODE.findall(text_of(page)) if kind.fullmatch(code)})


@pytest.mark.parametrize("page", MAPS)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    paths = named_in(page, PATH)

    assert paths
    assert [path for path in paths if not any((root / path).exists() for root in ROOTS)] == []


@pytest.mark.parametrize("page", MAPS)
def test_every_name_of_the_code_on_a_page_exists(page: str) -> None:
    names = [name for name in named_in(page, NAME) if not PATH.fullmatch(name)]

    assert names
    assert [name for name in names if not exists(name)] == []


def test_decision_records_are_numbered_without_a_gap_or_a_repeat() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: str(path.name[:4]))
def test_the_title_of_a_decision_record_begins_with_its_number(path: Path) -> None:
    assert path.read_text().startswith(f"# {path.name[:4]}: ")


def exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def is_there(page: str, link: str) -> bool:
    path, _, fragment = link.partition("#")
    target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
    if not target.exists():
        return False
    return not fragment or fragment in {anchor(heading) for heading in HEADING.findall(target.read_text())}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    links = [link for link in LINK.findall(text_of(page)) if not link.startswith(("http://", "https://"))]

    assert [link for link in links if not is_there(page, link)] == []


def contracts() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    return settings


def layers_of_workflows() -> list[str]:
    return next(list(c["layers"]) for c in contracts()["contracts"] if c["name"] == "Inside workflows")


def test_the_picture_shows_every_package_and_every_layer_of_the_contracts() -> None:
    layered = {name for layer in layers_of_workflows() for name in layer.split(" | ")}
    expected = layered | set(contracts()["root_packages"])

    picture = (REPOSITORY / "docs/images/architecture.svg").read_text()

    assert expected - set(re.findall(r'class="name">([\w.]+)<', picture)) == set()


def test_the_picture_shows_the_layers_in_the_order_of_the_contract() -> None:
    picture = (REPOSITORY / "docs/images/architecture.svg").read_text()
    layers = [set(layer.split(" | ")) for layer in layers_of_workflows()]

    rows: dict[int, set[str]] = {}
    for height, name in re.findall(r'y="(\d+)"><tspan class="name">([\w.]+)<', picture):
        if any(name in layer for layer in layers):
            rows.setdefault(int(height), set()).add(name)

    assert [rows[height] for height in sorted(rows)] == layers
