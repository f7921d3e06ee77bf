"""The HTTP client connects only to permitted addresses, and ends in time."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from notifications.addresses import Policy, is_public
from notifications.outgoing import Client, Deadline, NoAnswerError, RefusedError
from notifications.tests import receiver as behaviours
from notifications.tests.receiver import Receiver, running

LOCAL = Policy((ipaddress.ip_network("127.0.0.0/8"),))


def client(policy: Policy = LOCAL, *, timeout: float = 10) -> Client:
    return Client(policy=policy, timeout=timeout)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0.0.1/",
        "http://localhost/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[fec0::1]/",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Injected: 1",
        "http:///path",
        "http://[not-an-address]/",
        "http://example.com:99999/",
        "http://example.com:0/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
    ],
)
def test_a_url_outside_the_public_internet_is_refused_at_save_and_at_send(url: str) -> None:
    strict = client(Policy())

    with pytest.raises(RefusedError):
        strict.check(url)
    with pytest.raises(RefusedError):
        strict.post(url, body=b"", headers={})


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::", True),
        ("2001:0:808:808::f7f7:f7f7", True),
        ("2001:0:808:808::80ff:fffe", False),
        ("198.18.0.1", False),
        ("2001:db8::1", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_public_if_the_embedded_address_is_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_an_operator_allows_one_network_and_no_other(receiver: Receiver) -> None:
    answer = client().post(f"{receiver.url}/hook", body=b"{}", headers={})

    assert (answer.status, answer.excerpt) == (200, "ok")
    assert client().resolve("::ffff:127.0.0.1", 80, Deadline.after(5)) != []
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1 has no public address"):
        client().check("http://10.0.0.1/")


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker's name server answers with a public address first, and with a private one afterwards."""
    port = int(receiver.url.rpartition(":")[2])
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    only_the_first = Policy((ipaddress.ip_network("127.0.0.1/32"),))

    answer = client(only_the_first).post(f"http://rebinding.example:{port}/hook", body=b"", headers={})
    with pytest.raises(RefusedError, match=r"rebinding\.example has no public address"):
        client(only_the_first).post(f"http://rebinding.example:{port}/hook", body=b"", headers={})

    assert answer.status == 200
    assert asked == ["rebinding.example", "rebinding.example"]
    assert [request.headers["Host"] for request in receiver.received] == [f"rebinding.example:{port}"]


def test_a_name_with_one_bad_address_among_its_good_ones_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: str, port: int, **kwargs: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)

    with pytest.raises(RefusedError):
        client().post("http://both.example/", body=b"", headers={})

    assert receiver.received == []


def test_a_url_beyond_ascii_is_sent_percent_encoded_and_what_is_encoded_already_stays(receiver: Receiver) -> None:
    client().post(f"{receiver.url}/hooks/gr\u00f6\u00dfe/100%25?name=M\u00fcller&x=%C3%A4", body=b"", headers={})

    assert [request.path for request in receiver.received] == [
        "/hooks/gr%C3%B6%C3%9Fe/100%25?name=M%C3%BCller&x=%C3%A4"
    ]


def test_a_host_beyond_ascii_is_resolved_and_named_in_idna(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(receiver.url.rpartition(":")[2])
    asked: list[str] = []
    real = socket.getaddrinfo

    def local(host: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    url = f"http://B\u00fccher.example:{port}/gr\u00f6\u00dfe"

    checked = client().check(url)
    client().post(url, body=b"", headers={})

    assert checked == f"http://xn--bcher-kva.example:{port}/gr%C3%B6%C3%9Fe"
    assert asked == ["xn--bcher-kva.example"] * 2
    assert [request.headers["Host"] for request in receiver.received] == [f"xn--bcher-kva.example:{port}"]


@pytest.mark.parametrize(
    "url",
    [
        "http://stra\u00dfe.example/",  # strasse.example or xn--strae-oqa.example
        "http://" + "\u00fc" * 70 + ".example/",
        "http://\u00fc..example/",
        "http://example.com/half-\ud83d",
        "http://127\u30020\u30020\u30021/",
        "http://\uff11\uff12\uff17.0.0.1/",
    ],
)
def test_a_url_that_has_no_safe_form_in_ascii_is_refused(url: str) -> None:
    with pytest.raises(RefusedError):
        client(Policy()).check(url)
    with pytest.raises(RefusedError):
        client(Policy()).post(url, body=b"", headers={})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver, status: int) -> None:
    receiver.behaviours.append(behaviours.answer(status, location=f"{receiver.url}/elsewhere"))

    answer = client().post(f"{receiver.url}/hook", body=b"", headers={})

    assert answer.status == status
    assert [request.path for request in receiver.received] == ["/hook"]


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert client().post(receiver.url, body=b"", headers={}).status == 200


@pytest.mark.parametrize("behaviour", [behaviours.dripping_headers, "hang"])
def test_the_exchange_ends_at_the_deadline_however_slow_the_receiver_is(receiver: Receiver, behaviour: Any) -> None:
    """The receiver ends the exchange after `DEADLINE`. A client that waits that long sees another error, or none."""
    receiver.otherwise = receiver.hang if behaviour == "hang" else behaviour

    with pytest.raises(NoAnswerError, match=r"no complete answer within 0\.5 s"):
        client(timeout=0.5).post(receiver.url, body=b"", headers={})


def test_only_the_beginning_of_an_endless_body_is_read(receiver: Receiver) -> None:
    receiver.otherwise = behaviours.endless_body

    answer = client().post(receiver.url, body=b"", headers={})

    assert (answer.status, answer.excerpt) == (200, "x" * 2000)


def test_a_body_that_comes_in_pieces_after_the_headers_is_read(receiver: Receiver) -> None:
    receiver.otherwise = behaviours.late_body

    answer = client().post(receiver.url, body=b"", headers={})

    assert (answer.status, answer.excerpt) == (500, "explained later")


def test_a_body_that_breaks_off_does_not_change_the_status(receiver: Receiver) -> None:
    receiver.otherwise = behaviours.break_off

    answer = client().post(receiver.url, body=b"", headers={})

    assert (answer.status, answer.excerpt) == (200, "the beginning")


@pytest.mark.parametrize("behaviour", [behaviours.half_close, behaviours.endless_headers, behaviours.garbage])
def test_anything_but_http_is_no_answer(receiver: Receiver, behaviour: behaviours.Behaviour) -> None:
    receiver.otherwise = behaviour

    with pytest.raises(NoAnswerError, match="no answer"):
        client().post(receiver.url, body=b"", headers={})


def test_a_refused_connection_is_reported_without_the_url() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a-secret"

        with pytest.raises(NoAnswerError) as error:
            client().post(url, body=b"", headers={})

    assert str(error.value) == "no answer: connection refused"


def test_a_name_that_does_not_exist_is_refused_at_save() -> None:
    with pytest.raises(RefusedError, match=r"does-not-exist\.invalid has no public address"):
        client().check("https://does-not-exist.invalid/")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Return a file with a self-signed certificate for good.example and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "good.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("good.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "good.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_receiver(authority: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with running(Receiver(), tls=context) as receiver:
        yield receiver


def test_the_certificate_must_match_the_name_and_not_the_address(
    tls_receiver: Receiver, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(tls_receiver.url.rpartition(":")[2])
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **kwargs: real("127.0.0.1", *args, **kwargs))
    trusting = Client(policy=LOCAL, timeout=10, tls=ssl.create_default_context(cafile=str(authority)))

    answer = trusting.post(f"https://good.example:{port}/hook", body=b"", headers={})
    with pytest.raises(NoAnswerError, match="its certificate is not valid"):
        trusting.post(f"https://other.example:{port}/hook", body=b"", headers={})
    with pytest.raises(NoAnswerError, match="its certificate is not valid"):
        client().post(f"https://good.example:{port}/hook", body=b"", headers={})

    assert answer.status == 200
    assert len(tls_receiver.received) == 1
