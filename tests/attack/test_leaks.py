"""What must not leave: tickets in logs, answers in caches, what names inside resolve to."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from notifications.addresses import Policy, is_public
from notifications.outgoing import Client, RefusedError
from rest.errors import InvalidInputError
from tests.attack.target import Target
from tests.live.parts import until
from workflows import parameters

SECRET = "canary0123456789"


@pytest.fixture(scope="module")
def chatty(directory: Path, db: None) -> Iterator[Target]:
    """A web process that logs each request, as `make up` and the image do."""
    with Target(directory, LOG_LEVEL="INFO") as target:
        yield target


def test_no_ticket_or_token_in_a_url_reaches_the_access_log(chatty: Target) -> None:
    """Before: only `ticket=` was hidden, neither `token=` nor a percent-encoded name. Now: 0 of 6 stand in the log."""
    queries = ("ticket=", "token=", "access_token=", "%74icket=", "a=1&TICKET=", "api%5Fkey=")
    for query in queries:
        # Not through a client library, which would decode the names.
        head = f"GET /api/v1/runs?{query}{SECRET} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        chatty.raw(head.encode())
    requests.get(f"{chatty.url}/api/v1/events/stream?ticket={SECRET}", timeout=60)
    socket_url = chatty.url.replace("http", "ws", 1)
    with suppress(InvalidStatus), connect(f"{socket_url}/api/v1/ws?ticket={SECRET}", open_timeout=60):
        pass
    requests.get(f"{chatty.url}/api/v1/runs?state=running&page=2&last=1", timeout=60)

    until(lambda: "last=1" in chatty.log, within=60)
    assert SECRET not in chatty.log
    for query in queries:
        assert f"{query}***" in chatty.log
    # The first query, the SSE stream and the socket.
    assert chatty.log.count("ticket=***") == 3
    assert "state=running&page=2" in chatty.log


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/me", "/api/v1/runs", "/api/v1/nothing", "/healthz", "/readyz"])
def test_no_json_answer_may_be_stored(chatty: Target, path: str) -> None:
    """Before: only answers that carry a new secret said so. Now: every one, also refusals."""
    answer = requests.get(f"{chatty.url}{path}", timeout=60)

    assert answer.headers["Content-Type"].startswith("application/")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "address",
    [
        *("64:ff9b:1::808:808", "64:ff9b:1:fffe::1", "64:ff9b::a00:1", "::8.8.8.8", "::ffff:0:808:808", "100::1"),
        *("2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "fc00::1"),
        *("fe80::1", "fec0::1", "ff0e::1", "2002:a00:1::", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:7f00:1"),
        *("4000::1", "0.0.0.1", "100.127.255.255", "169.254.169.254", "192.0.0.8", "192.88.99.1", "198.19.0.1"),
        *("203.0.113.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_no_special_address_is_taken_for_public(address: str) -> None:
    """Before: `64:ff9b:1::/48` was taken for public. Now: neither it nor any other range that IANA lists as special."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2a00:1450::5efe:8.8.8.8"])
def test_a_public_address_stays_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_refusal_is_the_same_for_a_name_inside_and_for_one_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before: "db.internal leads to the address 10.20.30.40", so anybody with an account could map the network."""
    inside = {"db.internal": "10.20.30.40", "v6.internal": "fd00::1"}
    real = socket.getaddrinfo

    def name_server(host: str, *args: Any, **kwargs: Any) -> Any:
        if host not in inside:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(inside[host], *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", name_server)

    refusals = {name: _refusal(f"http://{name}/") for name in (*inside, "nothing.internal")}

    assert {text.replace(name, "HOST") for name, text in refusals.items()} == {
        "HOST has no public address. Check the name; an operator can allow a private network with "
        "NOTIFICATION_ALLOWED_NETWORKS."
    }


def _refusal(url: str) -> str:
    with pytest.raises(RefusedError) as refused:
        Client(policy=Policy(), timeout=10).check(url)
    return str(refused.value)


@pytest.fixture
def schemas() -> Iterator[tuple[str, list[str]]]:
    """A server that notes who fetches a schema from it."""
    asked: list[str] = []

    class Schemas(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"type": "string"}).encode())

    with HTTPServer(("127.0.0.1", 0), Schemas) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema", "$id"])
def test_a_schema_of_a_dag_makes_us_fetch_nothing(tmp_path: Path, schemas: tuple[str, list[str]], keyword: str) -> None:
    """Before: one request for each check of a value, to any host or file."""
    url, asked = schemas
    (tmp_path / "schema.json").write_text('{"type": "string"}')
    for address in (f"{url}/schema.json", (tmp_path / "schema.json").as_uri()):
        schema = {"type": "object", "properties": {"p": {keyword: address}, "q": {"$ref": f"{address}#/x"}}}
        # A schema that cannot be resolved refuses the value; one without a `$ref` does not need the address.
        with pytest.raises(InvalidInputError) as refused:
            parameters.check_defaults(defaults={"p": 1, "q": 1}, schema=schema)
        assert "is not of type 'string'" not in json.dumps(refused.value.errors)

    assert asked == []
