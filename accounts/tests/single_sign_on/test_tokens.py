"""ID tokens of the provider are exchanged for tokens of ours; bad ones are refused."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from joserfc import jwt
from joserfc.jwk import RSAKey
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import oidc
from accounts.models import User
from accounts.tests.conftest import bearer
from accounts.tests.provider import CLIENT_ID, CLIENT_SECRET, Provider
from accounts.tests.single_sign_on.steps import audited, exchanged, signed_in, started, stored


def test_a_token_of_the_provider_is_exchanged_for_tokens_of_ours(db: None, sso: Provider) -> None:
    answer = exchanged(sso.id_token("grace"))

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    me = bearer(answer.json()["access_token"]).get("/api/v1/auth/me").json()
    assert (me["username"], me["role"]) == ("grace", "user")
    renewed = APIClient().post("/api/v1/auth/refresh", {"refresh_token": answer.json()["refresh_token"]})
    assert renewed.status_code == 200
    assert audited("auth.signed_in") == [("auth.signed_in", "grace", {"issuer": sso.issuer, "subject": "grace"})]


def test_console_and_token_exchange_find_the_same_account(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    exchanged(sso.id_token("grace"))

    assert User.objects.count() == 1


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _by_secret(provider: Provider, secret: bytes) -> str:
    """Sign by hand: no library uses a public key as a secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": provider.key.kid}
    text = ".".join(_text(json.dumps(part).encode()) for part in (header, provider.claims()))
    return f"{text}.{_text(hmac.digest(secret, text.encode(), 'sha256'))}"


def _unsigned(provider: Provider) -> str:
    return ".".join([*(_text(json.dumps(part).encode()) for part in ({"alg": "none"}, provider.claims())), ""])


def _by_other(provider: Provider, kid: str | None) -> str:
    other = RSAKey.generate_key(2048, auto_kid=True)
    return jwt.encode({"alg": "RS256", "kid": kid or other.kid}, provider.claims(), other)


NOW = time.time()


BAD: dict[str, Callable[[Provider], str]] = {
    "for another client": lambda p: p.signed(aud="another"),
    "for another client, and made for ours": lambda p: p.signed(aud="another", azp=CLIENT_ID),
    "for others too, and made for another": lambda p: p.signed(aud=[CLIENT_ID, "another"], azp="another"),
    "for others too, and nobody says for whom it was made": lambda p: p.signed(aud=[CLIENT_ID, "another"]),
    "made for another": lambda p: p.signed(azp="another"),
    "of another issuer": lambda p: p.signed(iss="https://evil.example.com"),
    "of the issuer with a slash": lambda p: p.signed(iss=f"{p.issuer}/"),
    "expired": lambda p: p.signed(exp=int(NOW) - 600),
    "not yet valid": lambda p: p.signed(nbf=int(NOW) + 86_400),
    "made tomorrow": lambda p: p.signed(iat=int(NOW) + 86_400),
    "without an expiry": lambda p: p.signed(exp=None),
    "without a time of issue": lambda p: p.signed(iat=None),
    "without an issuer": lambda p: p.signed(iss=None),
    "without an audience": lambda p: p.signed(aud=None),
    "without a subject": lambda p: p.signed(sub=None),
    "with an empty subject": lambda p: p.signed(sub=""),
    "with a number as subject": lambda p: p.signed(sub=7),
    "with a control character as subject": lambda p: p.signed(sub="a\x00b"),
    "with an endless subject": lambda p: p.signed(sub="a" * 256),
    "with words as an expiry": lambda p: p.signed(exp="tomorrow"),
    "without a signature": _unsigned,
    "signed with the client's secret": lambda p: _by_secret(p, CLIENT_SECRET.encode()),
    "signed with the public key as a secret": lambda p: _by_secret(p, p.key.as_pem(private=False)),
    "signed with a key that nobody knows": lambda p: _by_other(p, None),
    "signed with another key in the provider's name": lambda p: _by_other(p, p.key.kid),
    "with a changed claim": lambda p: _swapped(p.signed(), p.signed(sub="root")),
    "cut": lambda p: p.signed()[:-20],
    "a word": lambda p: "x",
    "dots": lambda p: "..",
    "not ASCII": lambda p: "é.é.é",
    "not JSON": lambda p: "eA.eA.eA",
    "a list": lambda p: "W10.W10.W10",
}


def _swapped(first: str, second: str) -> str:
    (header, _, signature), (_, payload, _) = first.split("."), second.split(".")
    return f"{header}.{payload}.{signature}"


@pytest.mark.parametrize("token_of", BAD.values(), ids=BAD)
def test_a_bad_token_is_refused(db: None, sso: Provider, token_of: Callable[[Provider], str]) -> None:
    answer = exchanged(token_of(sso))

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert stored() == []


def test_the_same_token_without_the_fault_is_accepted(db: None, sso: Provider) -> None:
    assert exchanged(sso.signed()).json()["user"]["username"] == "ada"
    assert exchanged(sso.signed(aud=[CLIENT_ID, "another"], azp=CLIENT_ID)).status_code == 200


def test_the_keys_are_kept_and_read_again_once_for_an_unknown_key(
    db: None, sso: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "KEPT", 10**9)
    before = sso.asked("/oauth/jwks.json")
    exchanged(sso.signed())
    exchanged(sso.signed())
    of_one_key = sso.asked("/oauth/jwks.json") - before
    sso.rotate()

    assert exchanged(sso.signed()).status_code == 200
    assert exchanged(_by_other(sso, None)).status_code == 401
    assert of_one_key == 1
    assert sso.asked("/oauth/jwks.json") - before == 3


@pytest.mark.usefixtures("nobody_there")
def test_while_the_provider_does_not_answer_no_token_is_exchanged(db: None, provider: Provider) -> None:
    answer = exchanged(provider.signed())

    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert stored() == []


def test_a_discovery_document_of_another_issuer_is_refused(db: None, sso: Provider, settings: Settings) -> None:
    # The same server under another name; its document names the right issuer.
    settings.OIDC_ISSUER = sso.issuer.replace("localhost", "127.0.0.1")

    answer = exchanged(sso.signed(iss=settings.OIDC_ISSUER))

    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert stored() == []


def test_a_provider_that_stops_during_a_sign_in_is_reported_too(db: None, sso: Provider, settings: Settings) -> None:
    short_lived, client = Provider(), Client()
    settings.OIDC_ISSUER = short_lived.issuer
    state = parse_qs(urlsplit(started(client)).query)["state"][0]
    short_lived.stop()

    page = client.get("/login/oidc/callback", {"code": "x", "state": state})
    answer = exchanged(short_lived.signed())

    assert (page.status_code, answer.status_code) == (503, 503)
    assert stored() == []
