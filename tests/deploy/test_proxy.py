"""The reverse proxy of the deployment page is a file that nginx accepts, and it agrees with the defaults."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import get_resolver, reverse

from runner.home import REPOSITORY
from runner.ports import free_port

CONFIG = (REPOSITORY / "deploy" / "proxy" / "nginx.conf").read_text()


@pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("openssl"), reason="needs nginx and openssl")
def test_nginx_accepts_the_file(tmp_path: Path) -> None:
    key, certificate = tmp_path / "svops.key", tmp_path / "svops.pem"
    subject = ("-subj", "/CN=svops.example.com", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    here = CONFIG.replace("/etc/nginx/tls", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    for port in ("443", "80"):
        here = re.sub(rf"listen {port}\b", f"listen 127.0.0.1:{free_port()}", here)
    whole = f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\nhttp {{\n{here}\n}}\n"
    (tmp_path / "nginx.conf").write_text(whole)

    check = ["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run(check, check=False, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


def test_only_modern_tls_is_spoken() -> None:
    assert re.findall(r"ssl_protocols ([^;]+);", CONFIG) == ["TLSv1.2 TLSv1.3"]
    assert not re.search(r"^\s*ssl_ciphers", CONFIG, re.MULTILINE)  # nginx' own defaults are stronger than an old list


def test_every_path_of_the_file_exists() -> None:
    inside, streams = re.findall(r"location ~ \^/(.*) \{", CONFIG)[::-1]

    assert {reverse(name).lstrip("/") for name in ("metrics", "readyz", "ingest")} == set(inside.strip("()").split("|"))
    assert re.match(streams, reverse("event-stream").lstrip("/"))
    assert re.match(streams, "api/v1/ws")
    assert get_resolver().resolve("/api/v1/workflows/1/runs/0c1f2a8a-8a86-4b0f-9d5a-3c4d5e6f7a8b/tasks/t/logs/stream")


def test_its_largest_body_is_ours() -> None:
    assert "client_max_body_size 1m;" in CONFIG
    assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE <= 1024**2
