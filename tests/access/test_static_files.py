"""The files of the pages: each is asked for once, compressed, under an address that changes with its content."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from accounts.models import User
from console.templatetags.modules import IMPORT, imported_by
from svops import static

ADDRESS = re.compile(r'(?:href|src)="(/static/[^"]+)"')
ZIPPED = {"HTTP_ACCEPT_ENCODING": "gzip"}


@pytest.fixture
def addresses(db: None, client: Client) -> list[str]:
    """The addresses that the console's page names."""
    client.force_login(User.objects.create_user("ada", "ada@example.com"))
    return ADDRESS.findall(client.get("/").content.decode())


def stored(address: str) -> bytes:
    return Path(str(finders.find(address.split("/", 3)[3]))).read_bytes()


def test_every_file_of_the_console_is_kept_for_a_year(client: Client, addresses: list[str]) -> None:
    for address in addresses:
        answer = client.get(address)

        assert address.startswith(f"/static/v{static.version()}/console/")
        assert (answer.status_code, answer.content) == (200, stored(address))
        assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
    assert len(addresses) > 30


def test_texts_are_compressed_for_who_can_read_that(client: Client, addresses: list[str]) -> None:
    sent = whole = 0
    for address in addresses:
        answer = client.get(address, **ZIPPED)  # type: ignore[arg-type]  # a header
        body = gzip.decompress(answer.content) if answer.has_header("Content-Encoding") else answer.content
        sent, whole = sent + len(answer.content), whole + len(body)

        assert body == stored(address)
    assert sent < whole / 2


def test_a_file_of_another_version_is_not_kept(client: Client) -> None:
    answer = client.get("/static/v000000000000/console/main.js")

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize(
    "name",
    ["", "/", "console/", "nothing.js", "../settings.py", "console/../../settings.py", "%2e%2e/settings.py", "\0"],
)
def test_nothing_else_is_served(db: None, client: Client, name: str) -> None:
    assert client.get(f"/static/v{static.version()}/{name}").status_code == 404


def test_a_file_cannot_be_written(db: None, client: Client) -> None:
    assert client.post(f"/static/v{static.version()}/console/main.js").status_code in {403, 404, 405}


def test_the_page_names_each_module_that_it_runs_once(addresses: list[str]) -> None:
    modules = imported_by("console/main.js")
    imported = {
        f"console/{path.removeprefix('./')}"
        for module in ("console/main.js", *modules)
        for path in IMPORT.findall(Path(str(finders.find(module))).read_text())
    }

    assert set(modules) == imported
    assert sorted(address.split("/", 3)[3] for address in addresses if address.endswith(".js")) == sorted(
        ["console/main.js", *modules]
    )
