"""What somebody with an account can make Apprise do on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from notifications.apprise_schemes import SCHEMES, scheme_of
from notifications.apprise_workers import ROOT, WORKERS, WorkerError, Workers
from notifications.outgoing import Client
from notifications.transports.apprise import Apprise
from notifications.transports.base import InvalidTargetError

PUBLIC = "8.8.8.8"
SAVES = 15


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    WORKERS.close()
    yield
    WORKERS.close()


def refusal(url: str) -> str:
    try:
        Apprise().clean(url, Client(timeout=60))
    except InvalidTargetError as exc:
        return str(exc)
    return ""


def processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "notifications.apprise_process" in child.cmdline()]


def test_15_saves_at_once_make_two_processes() -> None:
    """Before: 15 processes, and 323 MB."""
    with ThreadPoolExecutor(SAVES) as pool:
        refusals = list(pool.map(refusal, [f"json://{PUBLIC}/{number}" for number in range(SAVES)]))
    alive = processes()
    memory_mb = sum(process.memory_info().rss for process in alive) / 1e6

    assert refusals == [""] * SAVES
    assert len(alive) <= 2
    assert memory_mb < 200


def test_a_service_that_was_not_reviewed_starts_no_process() -> None:
    """Before: a process for each, which loaded all 140 services."""
    urls = [
        "file:///etc/passwd", "dbus://", "syslog://", "vapid://a@example.com?keyfile=/etc/passwd", "mailto://u:p@x.com",
        "fcm://project/token?keyfile=/etc/passwd", "sendgrid://k:a@x.com", "twilio://a:b@+15551234567/+15551234568",
        "https://discord.com/api/webhooks/1/2", "\u212aodi://x", "j\u017fon://x", "windows://", "slack://a/b/c", "",
    ]  # fmt: skip

    for url in urls:
        assert refusal(url), url
    assert processes() == []


OPTIONS = [
    "template=/etc/passwd", "TEMPLATE=/etc/passwd", "templ%61te=/etc/passwd", "a=1;template=/etc/passwd",
    "format=text&%20template%20=/etc/passwd", "attach=/etc/passwd", "template", "verify=no", "redirect=yes",
    "retry=99&wait=99", "rto=3600", "store=yes", "+X-Header=1", "-key=value", ":token=value", "avatar_url=http://127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("url", [f"json://{PUBLIC}/", "discord://123456789012345678/token_token_token"])
def test_an_option_that_was_not_reviewed_is_refused(url: str, option: str) -> None:
    """Before: `?template=` read any file that SVOps can read, and sent it."""
    assert "not allowed" in refusal(f"{url}?{option}")


@pytest.mark.parametrize(
    "url",
    [
        f"json://{PUBLIC}/path?format=text",
        "discord://123456789012345678/token_token_token?thread=1",
        "tgram://123456789:abcdefg_hijklmnop/12315544?silent=yes",
        f"ntfys://{PUBLIC}/topic?priority=high",
    ],
)
def test_reviewed_services_and_options_are_accepted(url: str) -> None:
    assert refusal(url) == ""


def test_no_reviewed_option_names_a_file() -> None:
    named = {option for options in SCHEMES.values() for option in options}

    assert (
        named & {"template", "attach", "keyfile", "subfile", "file_url", "filename", "path", "verify", "wait"} == set()
    )
    assert scheme_of("JSONS://x") == "jsons"


GUARDED = """
import sys
from notifications.addresses import Policy
from notifications.apprise_process import Guard
import requests, certifi
guard = Guard(Policy())
guard.begin()
for path, mode in [(sys.argv[1], "r"), ("/etc/passwd", "r"), ("/etc/../etc/shadow", "r"), (sys.argv[1], "a"),
                   (certifi.where(), "r"), (certifi.where(), "a")]:
    try:
        open(path, mode).close()
        print("opened")
    except PermissionError:
        print("refused")
"""


def test_no_service_opens_a_file_of_this_machine(tmp_path: Path) -> None:
    """Before: any file."""
    (tmp_path / "secret").write_text("secret")
    command = [sys.executable, "-c", GUARDED, str(tmp_path / "secret")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["refused"] * 4 + ["opened", "refused"]


def test_a_process_that_hangs_is_replaced_and_holds_up_nobody_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "python").chmod(0o755)
    workers, order = Workers(), {"do": "check", "url": f"json://{PUBLIC}/", "allowed": []}
    real = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(WorkerError, match=r"no complete answer within 0\.2 s"):
        workers.ask(order, size=1, timeout=0.2)
    monkeypatch.setattr(sys, "executable", real)
    first = workers.ask(order, size=1, timeout=60)
    pid = workers._free[0]._process.pid
    second = workers.ask(order, size=1, timeout=60)

    assert first == second == {"error": "", "permanent": False}
    assert workers._free[0]._process.pid == pid
    workers.close()


def test_the_process_sees_no_variable_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_SVOPS", "x")
    WORKERS.ask({"do": "check", "url": f"json://{PUBLIC}/", "allowed": []}, size=1, timeout=60)

    (process,) = processes()
    assert process.environ().keys() <= {"PATH", "SSL_CERT_FILE", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}
