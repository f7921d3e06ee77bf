"""Signing in with a real identity provider, and with what its tokens are not."""

from __future__ import annotations

import base64
import hmac
import json
import runpy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth import get_user
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from joserfc import jwt
from joserfc.jwk import RSAKey
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import identities, oidc, services
from accounts.models import AuditEntry, Identity, Role, User
from accounts.tests.conftest import bearer, everything
from accounts.tests.provider import CALLBACK, CLIENT_ID, CLIENT_SECRET, Provider
from svops.local.home import REPOSITORY

EXCHANGE = "/api/v1/auth/oidc"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def sso(provider: Provider, settings: Settings) -> Iterator[Provider]:
    """Single sign-on is on."""
    settings.OIDC_ISSUER = provider.issuer
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    settings.OIDC_SCOPES = "openid profile email groups"
    settings.OIDC_TIMEOUT = 60.0  # a busy machine takes its time
    oidc._client.cache_clear()
    yield provider
    oidc._client.cache_clear()


@pytest.fixture
def nobody_there(sso: Provider, settings: Settings, unused_tcp_port: int) -> None:
    settings.OIDC_ISSUER = f"http://127.0.0.1:{unused_tcp_port}"


def started(client: Client, next_url: str = "") -> str:
    """Where the browser is sent."""
    answer = client.get("/login/oidc", {"next": next_url})
    assert answer.status_code == 302
    return str(answer["Location"])


def signed_in(client: Client, provider: Provider, username: str = "grace", next_url: str = "") -> Any:
    return client.get(provider.sign_in(username, started(client, next_url)))


def exchanged(id_token: str) -> Any:
    return APIClient().post(EXCHANGE, {"id_token": id_token})


def stored() -> list[Any]:
    return [*everything(), *Identity.objects.order_by("pk").values(), *AuditEntry.objects.order_by("pk").values()]


def audited(*actions: str) -> list[tuple[str, str, Any]]:
    return list(AuditEntry.objects.filter(action__in=actions).order_by("pk").values_list("action", "actor", "after"))


def problem(answer: Any) -> str:
    return str(answer.context["problem"])


# --- Settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OIDC_ISSUER": "http://id.example.com"}, "must start with https:// (http:// only to localhost)"),
        ({"OIDC_ISSUER": "https://"}, "must start with https:// (http:// only to localhost)"),
        ({"OIDC_ISSUER": "https://id.example.com"}, "OIDC_ISSUER is set and OIDC_CLIENT_ID is not"),
        ({"OIDC_SCOPES": "profile,email"}, "must have openid among the scopes"),
        ({"OIDC_ROLE_CLAIM": "groups"}, "OIDC_ROLE_CLAIM goes with OIDC_ADMIN_VALUES or OIDC_USER_VALUES"),
        ({"OIDC_ADMIN_VALUES": "operators"}, "OIDC_ROLE_CLAIM goes with OIDC_ADMIN_VALUES or OIDC_USER_VALUES"),
        ({"OIDC_DEFAULT_ROLE": "admin"}, "must be one of user, viewer"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], words: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured) as refused:
        runpy.run_path(str(REPOSITORY / "svops" / "settings.py"))

    assert words in str(refused.value)


@pytest.mark.parametrize("issuer", ["https://id.example.com/realms/x", "http://localhost:1", "http://[::1]:1", ""])
def test_an_issuer_is_reached_by_https_or_on_this_machine(monkeypatch: pytest.MonkeyPatch, issuer: str) -> None:
    monkeypatch.setenv("OIDC_ISSUER", issuer)
    monkeypatch.setenv("OIDC_CLIENT_ID", "svops")

    assert runpy.run_path(str(REPOSITORY / "svops" / "settings.py"))["OIDC_ISSUER"] == issuer


# --- Off --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/login/oidc", "/login/oidc/callback?code=x&state=y"])
def test_without_an_issuer_the_way_is_not_there(db: None, path: str) -> None:
    answer = Client().get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_without_an_issuer_no_token_is_exchanged(db: None) -> None:
    answer = APIClient().post(EXCHANGE, {})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("page", ["/login", "/admin/login/"])
def test_pages_to_sign_in_offer_it_only_with_an_issuer(
    db: None, settings: Settings, unused_tcp_port: int, page: str
) -> None:
    off = Client().get(page).content.decode()
    settings.OIDC_ISSUER, settings.OIDC_NAME = f"http://localhost:{unused_tcp_port}", "Example"
    on = Client().get(f"{page}?next=/admin/%3Fq%3D1").content.decode()

    assert "/login/oidc" not in off
    assert 'href="/login/oidc?next=%2Fadmin%2F%3Fq%3D1">Sign in with Example</a>' in on


# --- In the browser ---------------------------------------------------------------------------------------


def test_the_browser_is_sent_with_all_that_protects_the_way_back(db: None, sso: Provider) -> None:
    place = urlsplit(started(Client()))

    query = {name: values[0] for name, values in parse_qs(place.query).items()}
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{sso.issuer}/oauth/authorize"
    assert {name: query.pop(name) for name in ("response_type", "client_id", "redirect_uri", "scope")} == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "scope": "openid profile email groups",
    }
    assert query.pop("code_challenge_method") == "S256"
    assert set(query) == {"state", "nonce", "code_challenge"}


def test_the_first_sign_in_makes_an_account_and_leads_to_the_place_that_the_link_named(db: None, sso: Provider) -> None:
    client = Client()

    answer = signed_in(client, sso, next_url="/?w=3#/runs/7")

    assert (answer.status_code, answer["Location"]) == (302, "/?w=3#/runs/7")
    grace = User.objects.get()
    assert (grace.username, grace.name, grace.email, grace.role) == (
        "grace",
        "Grace Hopper",
        "grace@example.com",
        Role.USER,
    )
    assert not grace.has_usable_password()
    assert get_user(client) == grace
    who = {"issuer": sso.issuer, "subject": "grace"}
    assert Identity.objects.values("user_id", "issuer", "subject").get() == {"user_id": grace.pk, **who}
    assert audited("identity.linked", "auth.signed_in") == [
        ("identity.linked", "grace", {"username": "grace", **who}),
        ("auth.signed_in", "grace", who),
    ]
    assert AuditEntry.objects.filter(action="user.created").count() == 1


def test_the_second_sign_in_finds_the_account(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    User.objects.update(username="renamed", email="other@example.com")

    client = Client()
    signed_in(client, sso)

    assert get_user(client) == User.objects.get()


@pytest.mark.parametrize("place", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", ""])
def test_nobody_is_led_to_another_site(db: None, sso: Provider, place: str) -> None:
    answer = signed_in(Client(), sso, next_url=place)

    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_an_admin_may_come_to_the_admin_pages_that_way(db: None, sso: Provider, settings: Settings) -> None:
    settings.OIDC_ROLE_CLAIM, settings.OIDC_ADMIN_VALUES = "groups", ["operators"]
    client = Client()

    answer = signed_in(client, sso, next_url="/admin/")

    assert client.get(answer["Location"]).status_code == 200


def _with(url: str, **others: str) -> str:
    place = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(place.query).items()} | others
    return place._replace(query=urlencode(query)).geturl()


def test_a_way_back_that_this_browser_did_not_begin_is_refused(db: None, sso: Provider) -> None:
    back = sso.sign_in("grace", started(Client()))
    victim, before = Client(), stored()
    own_state = parse_qs(urlsplit(started(victim)).query)["state"][0]

    answers = [victim.get(back), victim.get(_with(back, state="forged")), victim.get(_with(back, state=own_state))]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert problem(answers[0]) == "The identity provider did not sign you in; try again."
    assert stored() == before
    assert get_user(victim).is_anonymous


def test_a_way_back_is_good_once(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", started(client))
    client.get(back)
    before = stored()

    assert client.get(back).status_code == 403
    assert stored() == before


def test_a_token_with_another_nonce_is_refused(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", _with(started(client), nonce="of somebody else"))

    assert client.get(back).status_code == 401
    assert stored() == []


def test_a_code_that_was_asked_for_with_another_challenge_is_refused(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", _with(started(client), code_challenge="k" * 43))

    assert client.get(back).status_code == 403
    assert stored() == []


def test_somebody_whom_the_provider_refuses_stays_out_and_its_words_are_not_shown(db: None, sso: Provider) -> None:
    client = Client()
    state = parse_qs(urlsplit(started(client)).query)["state"][0]

    answer = client.get(
        "/login/oidc/callback", {"error": "access_denied", "error_description": "Call me", "state": state}
    )

    assert answer.status_code == 403
    assert "Call me" not in answer.content.decode()
    assert stored() == []


@pytest.mark.usefixtures("nobody_there")
def test_while_the_provider_does_not_answer_the_page_says_so_and_keeps_the_place(db: None) -> None:
    answer = Client().get("/login/oidc", {"next": "/#/runs/7"})

    assert (answer.status_code, problem(answer)) == (503, "The identity provider did not answer; try again later.")
    assert 'name="next" value="/#/runs/7"' in answer.content.decode()


# --- Tokens -----------------------------------------------------------------------------------------------


def test_a_token_of_the_provider_is_exchanged_for_tokens_of_ours(db: None, sso: Provider) -> None:
    answer = exchanged(sso.id_token("grace"))

    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    me = bearer(answer.json()["access_token"]).get("/api/v1/auth/me").json()
    assert (me["username"], me["role"]) == ("grace", "user")
    renewed = APIClient().post("/api/v1/auth/refresh", {"refresh_token": answer.json()["refresh_token"]})
    assert renewed.status_code == 200
    assert audited("auth.signed_in") == [("auth.signed_in", "grace", {"issuer": sso.issuer, "subject": "grace"})]


def test_console_and_tokens_lead_to_one_account(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    exchanged(sso.id_token("grace"))

    assert User.objects.count() == 1


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _by_secret(provider: Provider, secret: bytes) -> str:
    """By hand: no library signs with a public key as a secret."""
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
    "not yet good": lambda p: p.signed(nbf=int(NOW) + 86_400),
    "made tomorrow": lambda p: p.signed(iat=int(NOW) + 86_400),
    "without an end": lambda p: p.signed(exp=None),
    "without a beginning": lambda p: p.signed(iat=None),
    "without an issuer": lambda p: p.signed(iss=None),
    "without an audience": lambda p: p.signed(aud=None),
    "without a subject": lambda p: p.signed(sub=None),
    "with an empty subject": lambda p: p.signed(sub=""),
    "with a number as subject": lambda p: p.signed(sub=7),
    "with a control character as subject": lambda p: p.signed(sub="a\x00b"),
    "with an endless subject": lambda p: p.signed(sub="a" * 256),
    "with words as an end": lambda p: p.signed(exp="tomorrow"),
    "without a signature": _unsigned,
    "signed with the client's secret": lambda p: _by_secret(p, CLIENT_SECRET.encode()),
    "signed with the public key as a secret": lambda p: _by_secret(p, p.key.as_pem(private=False)),
    "signed with a key that nobody knows": lambda p: _by_other(p, None),
    "signed with another key in the provider's name": lambda p: _by_other(p, p.key.kid),
    "with a changed claim": lambda p: _swapped(p.signed(), p.signed(sub="root")),
    "cut": lambda p: p.signed()[:-20],
    "a word": lambda p: "x",
    "dots": lambda p: "..",
    "no letters of ours": lambda p: "é.é.é",
    "no JSON": lambda p: "eA.eA.eA",
    "a list": lambda p: "W10.W10.W10",
}


def _swapped(first: str, second: str) -> str:
    (header, _, signature), (_, payload, _) = first.split("."), second.split(".")
    return f"{header}.{payload}.{signature}"


@pytest.mark.parametrize("token_of", BAD.values(), ids=BAD)
def test_a_token_that_is_not_good_gets_nothing(db: None, sso: Provider, token_of: Callable[[Provider], str]) -> None:
    answer = exchanged(token_of(sso))

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert stored() == []


def test_the_same_token_without_the_fault_is_good(db: None, sso: Provider) -> None:
    assert exchanged(sso.signed()).json()["user"]["username"] == "ada"
    assert exchanged(sso.signed(aud=[CLIENT_ID, "another"], azp=CLIENT_ID)).status_code == 200


def test_the_keys_are_kept_and_read_again_once_for_one_that_is_unknown(
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


def test_what_is_not_the_description_of_the_issuer_is_no_provider(db: None, sso: Provider, settings: Settings) -> None:
    # The same server under another name: it says who it is.
    settings.OIDC_ISSUER = sso.issuer.replace("localhost", "127.0.0.1")

    answer = exchanged(sso.signed(iss=settings.OIDC_ISSUER))

    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert stored() == []


def test_a_provider_that_goes_away_half_way_is_told_of_too(db: None, sso: Provider, settings: Settings) -> None:
    short_lived, client = Provider(), Client()
    settings.OIDC_ISSUER = short_lived.issuer
    state = parse_qs(urlsplit(started(client)).query)["state"][0]
    short_lived.stop()

    page = client.get("/login/oidc/callback", {"code": "x", "state": state})
    answer = exchanged(short_lived.signed())

    assert (page.status_code, answer.status_code) == (503, 503)
    assert stored() == []


# --- Whose account ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "local",
    [
        {"username": "ada", "email": "other@example.com"},
        {"username": "ADA", "email": ""},
        {"username": "other", "email": "Ada@Example.com"},
    ],
    ids=["the name", "the name in capitals", "the address"],
)
def test_an_account_that_has_the_name_or_address_is_not_taken_over(
    db: None, sso: Provider, local: dict[str, str]
) -> None:
    User.objects.create_user(**local, password="correct horse", role=Role.ADMIN)
    before = stored()

    answer = exchanged(sso.signed(email_verified=True))

    assert (answer.status_code, answer.json()["code"]) == (409, "account_exists")
    assert stored() == before


def test_an_account_that_an_operator_has_linked_is_signed_in_to(
    ada: User, root: User, sso: Provider, client: Client
) -> None:
    client.force_login(root)
    page = client.get("/admin/accounts/identity/add/")
    assert page.context["adminform"].form.initial["issuer"] == sso.issuer

    added = client.post("/admin/accounts/identity/add/", {"user": ada.pk, "issuer": sso.issuer, "subject": "ada-7"})

    assert added.status_code == 302
    assert exchanged(sso.signed()).json()["user"]["id"] == ada.pk
    assert audited("identity.linked") == [
        ("identity.linked", "root", {"username": "ada", "issuer": sso.issuer, "subject": "ada-7"})
    ]


def test_a_subject_is_linked_to_one_user_at_most(
    ada: User, vera: User, root: User, sso: Provider, client: Client
) -> None:
    identities.link(user=ada, issuer=sso.issuer, subject="7")
    client.force_login(root)
    before = stored()

    refused = client.post("/admin/accounts/identity/add/", {"user": vera.pk, "issuer": sso.issuer, "subject": "7"})

    assert refused.status_code == 200
    assert stored() == before


@pytest.mark.parametrize("way", ["page", "list"])
def test_a_subject_whose_link_was_taken_away_is_a_stranger(
    ada: User, root: User, sso: Provider, client: Client, way: str
) -> None:
    identity = identities.link(user=ada, issuer=sso.issuer, subject="ada-7")
    client.force_login(root)

    if way == "page":
        client.post(f"/admin/accounts/identity/{identity.pk}/delete/", {"post": "yes"})
    else:
        data = {"action": "delete_selected", "_selected_action": [identity.pk], "post": "yes"}
        client.post("/admin/accounts/identity/", data)

    assert AuditEntry.objects.get(action="identity.unlinked").before == {
        "username": "ada",
        "issuer": sso.issuer,
        "subject": "ada-7",
    }
    assert exchanged(sso.signed()).json()["code"] == "account_exists"


def test_somebody_who_was_shut_out_stays_out(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    services.deactivate(user=User.objects.get())
    client, before = Client(), stored()

    page = signed_in(client, sso)
    answer = exchanged(sso.id_token("grace"))

    assert (page.status_code, problem(page)) == (403, "This account was shut; ask an administrator.")
    assert (answer.status_code, answer.json()["code"]) == (403, "account_inactive")
    assert stored() == before
    assert get_user(client).is_anonymous


@pytest.mark.parametrize("username", [None, "", "Ada Lovelace", "a" * 151, "\ufdfa", 7, ["ada"]])
def test_a_token_without_a_name_that_can_be_a_username_makes_no_account(
    db: None, sso: Provider, username: object
) -> None:
    answer = exchanged(sso.signed(preferred_username=username))

    assert (answer.status_code, answer.json()["code"]) == (403, "identity_incomplete")
    assert stored() == []


def test_the_username_may_come_from_another_claim(db: None, sso: Provider, settings: Settings) -> None:
    settings.OIDC_USERNAME_CLAIM = "email"

    assert exchanged(sso.signed()).json()["user"]["username"] == "ada@example.com"


@pytest.mark.parametrize(
    "said",
    [{"email": None}, {"email_verified": False}, {"email_verified": "no"}, {"email": "no address"}, {"email": 7}],
    ids=str,
)
def test_an_address_that_is_none_or_not_verified_is_left_out(db: None, sso: Provider, said: dict[str, Any]) -> None:
    assert exchanged(sso.signed(**said)).json()["user"]["email"] == ""


# --- Roles ------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(settings: Settings) -> Settings:
    settings.OIDC_ROLE_CLAIM = "groups"
    settings.OIDC_ADMIN_VALUES, settings.OIDC_USER_VALUES = ["operators"], ["staff"]
    settings.OIDC_DEFAULT_ROLE = "viewer"
    return settings


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["operators", "staff"], "admin"),
        ("operators", "admin"),
        (["staff"], "user"),
        (["operator", "Operators", 7], "viewer"),
        ({"operators": 1}, "viewer"),
        (None, "viewer"),
    ],
)
def test_the_highest_role_that_a_value_gives_counts(
    db: None, sso: Provider, roles: Settings, groups: object, role: str
) -> None:
    assert exchanged(sso.signed(groups=groups)).json()["user"]["role"] == role


def test_without_a_role_claim_nobody_is_made_admin_and_a_role_that_was_given_stays(db: None, sso: Provider) -> None:
    first = exchanged(sso.signed(groups=["admin", "operators"], role="admin")).json()["user"]
    User.objects.filter(pk=first["id"]).update(role=Role.VIEWER)

    second = exchanged(sso.signed()).json()["user"]

    assert (first["role"], second["role"]) == ("user", "viewer")


def test_a_role_that_was_taken_away_counts_from_the_next_sign_in_on_for_what_exists(
    root: User, sso: Provider, roles: Settings
) -> None:
    before = bearer(exchanged(sso.signed(groups=["operators"])).json()["access_token"])
    assert before.get("/api/v1/users").status_code == 200

    exchanged(sso.signed(groups=["staff"]))

    assert before.get("/api/v1/users").status_code == 403
    change = AuditEntry.objects.get(action="user.role_changed")
    assert (change.object_name, change.before, change.after) == ("ada", {"role": "admin"}, {"role": "user"})


def test_the_last_admin_is_not_demoted_and_does_not_come_in_as_one(db: None, sso: Provider, roles: Settings) -> None:
    exchanged(sso.signed(groups=["operators"]))
    before = stored()

    answer = exchanged(sso.signed(groups=[]))

    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert stored() == before


# --- At the same time -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_first_sign_ins_at_once_make_one_account() -> None:
    claims = oidc.Claims(
        issuer="https://id.example.com", subject="7", username="ada", name="", email="ada@example.com", role=None
    )
    start = Barrier(4)

    def enter(_: int) -> int:
        try:
            start.wait(timeout=30)
            return identities.enter(claims).user.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        users = set(pool.map(enter, range(4)))

    assert users == {User.objects.get().pk}
    assert Identity.objects.count() == 1
    assert AuditEntry.objects.filter(action="user.created").count() == 1
