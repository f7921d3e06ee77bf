"""Rate limits and lockout, counted in a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import limits, lockout
from accounts.addresses import address_of, site_of
from accounts.limits import Rate
from accounts.models import User
from accounts.tests.conftest import PASSWORD, bearer
from rest import env
from rest.proxies import Proxies

AsUser = Callable[[User], APIClient]
LOGIN = "/api/v1/auth/login"
WRONG = "wrong"


@pytest.fixture(autouse=True)
def _counted_from_nothing(settings: Settings) -> Iterator[None]:
    server = redis.Redis.from_url(django_settings.REDIS_URL)
    for pattern in ("LIMITS:*", "svops:login:*"):
        for key in server.scan_iter(pattern):
            server.delete(key)
    yield
    limits._Redis.limiter.cache_clear()
    limits._Redis.away_until = 0.0
    lockout._redis.cache_clear()
    server.close()


@pytest.fixture
def no_redis(settings: Settings, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    limits._Redis.limiter.cache_clear()
    lockout._redis.cache_clear()


def login(client: APIClient, password: str = WRONG, username: str = "ada", **headers: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": password}, **headers)


# --- Rates ------------------------------------------------------------------------------------------------


def test_all_tokens_of_a_user_share_one_limit(as_user: AsUser, ada: User, vera: User, settings: Settings) -> None:
    settings.RATE_LIMIT_API = "3/hour"
    first, second = as_user(ada), as_user(ada)

    answers = [client.get("/api/v1/auth/me") for client in (first, second, first, second)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit-Limit"] for answer in answers] == ["3"] * 4
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json()["code"] == "throttled"
    assert 1 <= int(refused["Retry-After"]) <= 3600
    assert int(refused["RateLimit-Reset"]) == int(refused["Retry-After"])
    assert as_user(vera).get("/api/v1/auth/me").status_code == 200


def test_an_api_key_shares_the_limit_of_its_user(as_user: AsUser, ada: User, settings: Settings) -> None:
    made = as_user(ada).post("/api/v1/api-keys", {"name": "k", "scopes": ["workflow:read"]}).json()["key"]
    settings.RATE_LIMIT_API = "3/hour"

    assert [bearer(made).get("/api/v1/auth/me").status_code for _ in range(3)] == [200, 200, 200]
    assert as_user(ada).get("/api/v1/auth/me").status_code == 429


def test_signing_in_has_a_stricter_limit_per_address(ada: User, api: APIClient, settings: Settings) -> None:
    settings.RATE_LIMIT_AUTH = "2/hour"

    here = [login(api, PASSWORD).status_code for _ in range(3)]
    elsewhere = login(api, PASSWORD, REMOTE_ADDR="198.51.100.7").status_code

    assert (here, elsewhere) == ([200, 200, 429], 200)


def test_single_sign_on_has_the_limit_of_sign_ins_too(db: None, settings: Settings, unused_tcp_port: int) -> None:
    settings.OIDC_ISSUER = f"http://localhost:{unused_tcp_port}"
    settings.RATE_LIMIT_AUTH = "1/hour"

    first, second = (Client().get("/login/oidc") for _ in range(2))

    assert (first.status_code, second.status_code) == (503, 429)
    assert second["Retry-After"].isdecimal()


def test_pushes_without_a_signature_have_a_limit_per_address(api: APIClient, db: None, settings: Settings) -> None:
    settings.RATE_LIMIT_INGEST = "1/hour"

    first, second = (api.post("/api/v1/ingest", {"records": []}) for _ in range(2))

    assert (first.status_code, second.status_code) == (401, 429)
    assert second["Retry-After"].isdecimal()


def test_wrong_tokens_are_counted_by_address(db: None, settings: Settings) -> None:
    settings.RATE_LIMIT_API = "2/hour"

    statuses = [bearer(f"wrong{n}").get("/api/v1/auth/me").status_code for n in range(3)]

    assert statuses == [401, 401, 429]


def test_no_more_simultaneous_requests_than_the_limit_pass(settings: Settings) -> None:
    settings.RATE_LIMIT_API = "10/hour"
    passed: list[bool] = []

    def ask() -> None:
        for _ in range(5):
            usage = limits.hit(Rate.API, "user:1")
            assert usage
            passed.append(usage.allowed)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(passed), sum(passed)) == (30, 10)


@pytest.mark.usefixtures("no_redis")
def test_without_redis_nothing_is_limited_and_that_is_logged_once(
    api: APIClient, ada: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.RATE_LIMIT_AUTH, settings.LOGIN_ATTEMPTS = "1/hour", 1

    statuses = [login(api).status_code for _ in range(3)]

    assert statuses == [401, 401, 401]
    assert [r.message for r in caplog.records if "limited" in r.message] == [
        "nothing is limited: Redis does not answer"
    ]


@pytest.mark.parametrize("value", ["10", "0/minute", "ten/minute", "10/day", "10 per minute"])
def test_a_wrong_rate_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RATE_LIMIT_API", value)

    with pytest.raises(Exception, match=r"RATE_LIMIT_API=.* must be like 600/minute"):
        env.rate("RATE_LIMIT_API", default="1/minute")


# --- Addresses --------------------------------------------------------------------------------------------


PROXY = "192.0.2.1"
INSIDE = Proxies(networks=(ip_network("192.0.2.0/24"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
OUTSIDE = Proxies(networks=(ip_network("198.51.100.0/24"),))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (Proxies(), "203.0.113.9", PROXY),
        (Proxies(count=1), "203.0.113.9", "203.0.113.9"),
        (Proxies(count=1), "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (Proxies(count=2), "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (Proxies(count=2), "203.0.113.9", PROXY),
        (Proxies(count=1), "not an address", PROXY),
        (Proxies(count=1), "", PROXY),
        (INSIDE, "203.0.113.9", "203.0.113.9"),
        (INSIDE, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (INSIDE, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (INSIDE, "6.6.6.6, 2001:db8::9, fd00::1, 10.0.0.1", "2001:db8::9"),
        (INSIDE, "10.0.0.2, 10.0.0.1", "10.0.0.2"),
        (INSIDE, "6.6.6.6, not an address, 10.0.0.1", PROXY),
        (INSIDE, "", PROXY),
        (OUTSIDE, "203.0.113.9", PROXY),
    ],
)
def test_only_the_configured_proxies_are_believed(
    settings: Settings, proxies: Proxies, forwarded: str, address: str
) -> None:
    settings.TRUST_PROXY = proxies
    request = RequestFactory().get("/", REMOTE_ADDR=PROXY, HTTP_X_FORWARDED_FOR=forwarded)

    assert address_of(request) == address


def test_a_limit_counts_an_ipv6_network_as_one_address() -> None:
    assert site_of("2001:db8:1:2:3::4") == site_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert [site_of("192.0.2.1"), site_of("")] == ["192.0.2.1", ""]


@pytest.mark.parametrize(
    ("value", "proxies"),
    [
        ("false", Proxies()),
        ("0", Proxies()),
        ("", Proxies()),
        ("true", Proxies(count=1)),
        ("2", Proxies(count=2)),
        ("10.0.0.1", Proxies(networks=(ip_network("10.0.0.1/32"),))),
        ("10.0.0.0/8,fd00::/8", Proxies(networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))),
    ],
)
def test_trust_proxy_is_a_number_a_boolean_or_networks(
    monkeypatch: pytest.MonkeyPatch, value: str, proxies: Proxies
) -> None:
    monkeypatch.setenv("TRUST_PROXY", value)

    assert env.proxies("TRUST_PROXY") == proxies


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy.example.com", "maybe", "10.0.0.0/8;fd00::/8"])
def test_another_trust_proxy_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRUST_PROXY", value)

    with pytest.raises(ImproperlyConfigured, match=r"^TRUST_PROXY="):
        env.proxies("TRUST_PROXY")


# --- Lockout ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("username", ["ada", "nobody"])
def test_after_too_many_failures_the_next_try_waits_for_known_and_unknown_users_alike(
    api: APIClient, ada: User, settings: Settings, username: str
) -> None:
    settings.LOGIN_ATTEMPTS = 3

    answers = [login(api, username=username) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[-1].json() | {"request_id": ""} == {
        "code": "locked_out", "detail": "Too many tries; try again later.", "request_id": "",
    }  # fmt: skip
    assert answers[-1]["Retry-After"] == "1"
    assert login(api, PASSWORD, username=username.upper()).status_code == 429


def test_failures_from_another_address_lock_nobody_out(api: APIClient, ada: User, settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 2
    for _ in range(5):
        login(api, REMOTE_ADDR="198.51.100.7")

    assert login(api, PASSWORD, REMOTE_ADDR="198.51.100.7").status_code == 429
    assert login(api, PASSWORD, REMOTE_ADDR="192.0.2.1").status_code == 200


def test_the_right_password_resets_the_count(api: APIClient, ada: User, settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 3

    statuses = [login(api, password).status_code for password in ("x", "x", PASSWORD, "x", "x", PASSWORD)]

    assert statuses == [401, 401, 200, 401, 401, 200]


def test_each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour(settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 5

    assert [lockout.wait_after(n) for n in (5, 6, 7, 14, 15, 1000)] == [1, 2, 4, 512, 900, 900]


def test_only_one_of_many_simultaneous_tries_passes(settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            lockout.begin(username="ada", address="192.0.2.1")
        except lockout.LockedOutError:
            outcomes.append("waits")
        else:
            outcomes.append("tried")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["tried"] + ["waits"] * 7


@pytest.mark.parametrize(("path", "status"), [("/login", 429), ("/admin/login/", 200)])
def test_the_sign_in_forms_of_console_and_admin_lock_out_too(
    root: User, settings: Settings, path: str, status: int
) -> None:
    settings.LOGIN_ATTEMPTS = 2
    browser = Client()

    answers = [
        browser.post(path, {"username": "root", "password": password}) for password in ("wrong", "wrong", PASSWORD)
    ]

    refused = ["Too many tries" in answer.content.decode() for answer in answers]
    assert ([answer.status_code for answer in answers], refused) == ([200, 200, status], [False, False, True])
    assert "_auth_user_id" not in browser.session


def test_the_form_of_the_console_says_how_long_to_wait_in_a_header(root: User, settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 2
    browser = Client()

    answers = [browser.post("/login", {"username": "root", "password": "wrong"}) for _ in range(3)]

    assert 0 < int(answers[2]["Retry-After"]) <= 60
    assert [("Retry-After" in answer) for answer in answers] == [False, False, True]
