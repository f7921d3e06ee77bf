"""The reverse proxies, that of the deployment page and that of Compose, are files that nginx accepts and obeys."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import requests
from django.conf import settings
from django.urls import get_resolver, reverse
from websockets.sync.client import connect

from accounts.models import AuditEntry
from runner.home import REPOSITORY
from runner.ports import free_port
from tests.live.conftest import new_user, token_of
from tests.live.parts import Web, until

CONFIG = (REPOSITORY / "deploy" / "proxy" / "nginx.conf").read_text()
COMPOSE = REPOSITORY / "deploy" / "proxy" / "compose"
CLAIMED = "203.0.113.7"
needs_nginx = pytest.mark.skipif(
    not shutil.which("nginx") or not shutil.which("openssl"), reason="needs nginx and openssl"
)


def make_certificate(folder: Path) -> None:
    names = ("-subj", "/CN=svops.example.com", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(folder / "svops.key"), "-out", str(folder / "svops.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files], check=True, capture_output=True
    )


@needs_nginx
def test_nginx_accepts_the_file(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    here = CONFIG.replace("/etc/nginx/tls", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    for port in ("443", "80"):
        here = re.sub(rf"listen {port}\b", f"listen 127.0.0.1:{free_port()}", here)
    whole = f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\nhttp {{\n{here}\n}}\n"
    (tmp_path / "nginx.conf").write_text(whole)

    check = ["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run(check, check=False, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


@pytest.mark.parametrize("text", [CONFIG, (COMPOSE / "tls.conf").read_text()])
def test_only_modern_tls_is_spoken(text: str) -> None:
    assert re.findall(r"ssl_protocols ([^;]+);", text) == ["TLSv1.2 TLSv1.3"]
    assert not re.search(r"^\s*ssl_ciphers", text, re.MULTILINE)  # nginx' own defaults are stronger than an old list


@pytest.mark.parametrize("text", [CONFIG, (COMPOSE / "site.conf").read_text()])
def test_every_path_of_the_file_exists(text: str) -> None:
    inside, streams = re.findall(r"location ~ \^/(.*) \{", text)[::-1]

    assert {reverse(name).lstrip("/") for name in ("metrics", "readyz", "ingest")} == set(inside.strip("()").split("|"))
    assert re.match(streams, reverse("event-stream").lstrip("/"))
    assert re.match(streams, "api/v1/ws")
    assert get_resolver().resolve("/api/v1/workflows/1/runs/0c1f2a8a-8a86-4b0f-9d5a-3c4d5e6f7a8b/tasks/t/logs/stream")


@pytest.mark.parametrize("text", [CONFIG, (COMPOSE / "site.conf").read_text()])
def test_its_largest_body_is_ours(text: str) -> None:
    assert "client_max_body_size 1m;" in text
    assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE <= 1024**2


# --- The proxy of Compose -----------------------------------------------------------------------------------------


def written_here(folder: Path, mode: str, *, web: str, ports: dict[str, int]) -> Path:
    """Write the files of the container with paths, ports and the web process of this machine. Return the main one."""
    changes = {
        " /tmp/": f" {folder}/",
        "/etc/svops/proxy": str(folder),
        "/etc/svops/tls": str(folder),
        "/dev/stdout": str(folder / "access.log"),
        "http://web:8000": web,
        # The nginx of Debian is older than the one of the image.
        "http2 on;": "",
        **{f"listen {there}": f"listen 127.0.0.1:{here}" for there, here in ports.items()},
    }
    for path in COMPOSE.iterdir():
        text = path.read_text()
        for there, here in changes.items():
            text = text.replace(there, here)
        (folder / path.name).write_text(text)
    return folder / f"{mode}.conf"


@contextmanager
def proxy(folder: Path, mode: str, *, web: str) -> Iterator[dict[str, int]]:
    """Run nginx as Compose does. Yield its ports, by those in the container."""
    make_certificate(folder)
    ports = {"8080": free_port(), "8443": free_port()}
    main = written_here(folder, mode, web=web, ports=ports)
    # As root, nginx would give up its rights and could not enter the folder.
    options = "daemon off;" if os.getuid() else "daemon off; user root;"
    argv = ["nginx", "-p", str(folder), "-c", str(main), "-g", options]
    with (folder / "error.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{ports['8080']}/proxyhealth"
        until(lambda: _answers(url), within=30, or_say=lambda: (folder / "error.log").read_text())
        yield ports
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@needs_nginx
@pytest.mark.django_db(transaction=True)
def test_the_proxy_of_compose_passes_on_pages_streams_and_who_asks(tmp_path: Path) -> None:
    token = token_of(new_user())
    with (
        Web(tmp_path, TRUST_PROXY="127.0.0.0/8") as web,
        proxy(tmp_path, "http", web=web.url) as ports,
    ):
        base = f"http://127.0.0.1:{ports['8080']}"

        assert requests.get(f"{base}/login", timeout=20).ok
        assert requests.get(f"{base}/readyz", timeout=20).status_code == 404
        headers = {"Authorization": f"Bearer {token}"}
        with connect(f"ws{base.removeprefix('http')}/api/v1/ws", additional_headers=headers) as socket:
            assert json.loads(socket.recv(timeout=20))["type"] == "connection.ready"
        with requests.get(f"{base}/api/v1/events/stream", headers=headers, timeout=20, stream=True) as answer:
            assert "event: connection.ready" in islice(answer.iter_lines(decode_unicode=True), 2)
        # Who comes from a network of proxies is one, and names its clients.
        assert address_of_a_failed_sign_in(base) == CLAIMED


@needs_nginx
@pytest.mark.django_db(transaction=True)
def test_with_tls_the_proxy_of_compose_is_the_outermost_one_and_redirects_the_rest(tmp_path: Path) -> None:
    env = {"TRUST_PROXY": "127.0.0.0/8", "HTTPS": "true"}
    with Web(tmp_path, **env) as web, proxy(tmp_path, "tls", web=web.url) as ports:
        base = f"https://127.0.0.1:{ports['8443']}"
        plain = requests.get(f"http://127.0.0.1:{ports['8080']}/login", allow_redirects=False, timeout=20)
        address = address_of_a_failed_sign_in(base, certificate=tmp_path / "svops.pem")

    assert (plain.status_code, plain.headers["Location"]) == (308, "https://127.0.0.1/login")
    assert address == "127.0.0.1"


def address_of_a_failed_sign_in(base: str, *, certificate: Path | None = None) -> str:
    """Sign in with a wrong password, and with an address that the client claims. Return the one that SVOps believes."""
    answer = requests.post(
        f"{base}/api/v1/auth/login",
        json={"username": "nobody", "password": "wrong"},
        headers={"X-Forwarded-For": CLAIMED},
        verify=str(certificate) if certificate else True,
        timeout=20,
    )
    assert answer.status_code == 401
    return AuditEntry.objects.get(action="auth.sign_in_failed").address
