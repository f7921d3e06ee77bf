"""A caller chooses the encoding, the nesting and the numbers of a request. None of them costs much time."""

from __future__ import annotations

import pytest
import requests

from tests.attack.target import Target

MOST_CPU = 2.0  # seconds for one attack of this module, generous for a busy machine
LOGIN = "/api/v1/auth/login"


def post(web: Target, body: bytes, content_type: str, path: str = LOGIN) -> requests.Response:
    return requests.post(f"{web.url}{path}", data=body, headers={"Content-Type": content_type}, timeout=60)


def test_the_charset_of_json_is_refused_before_it_is_decoded(web: Target) -> None:
    """Before: punycode took 3.6 s of CPU for 200 KB, so 36 s for these ten."""
    body = b'{"username": "' + b"a" * 200_000 + b'"}'

    with web.measured() as cost:
        answers = [post(web, body, "application/json; charset=punycode") for _ in range(10)]

    assert {answer.status_code for answer in answers} == {415}
    assert {answer.json()["code"] for answer in answers} == {"unsupported_media_type"}
    assert cost.cpu_s < MOST_CPU


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=x; charset=punycode",
        "application/x-www-form-urlencoded; charset=idna",
        "application/json; charset*=utf-8''punycode",
        "application/json; charset=no-such-codec",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8-sig",
    ],
)
@pytest.mark.parametrize("path", [LOGIN, "/login", "/admin/login/"])
def test_no_other_charset_reaches_a_form_or_a_parser(web: Target, content_type: str, path: str) -> None:
    """Before: a multipart form in punycode cost as much as JSON, and each unknown name stayed in memory for ever."""
    field = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n' + b"a" * 200_000 + b"\r\n--x--\r\n"

    with web.measured() as cost:
        assert post(web, field, content_type, path).status_code == 415

    assert cost.cpu_s < MOST_CPU


@pytest.mark.parametrize("content_type", ["application/json", 'application/json; charset="UTF-8"'])
def test_utf_8_is_accepted_with_and_without_its_name(web: Target, content_type: str) -> None:
    answer = post(web, '{"username": "nobody-ä", "password": "x"}'.encode(), content_type)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"username": ' + b"9" * 5_000 + b"}", "digit"),
        (b'{"username": [' + b"9" * 4_000 + (b"," + b"9" * 4_000) * 200 + b"]}", ""),
        (b"[" * 900_000, "nested too deeply"),
        (b'{"a":' * 150_000, "nested too deeply"),
        (b"[" * 101 + b"]" * 101, "nested too deeply"),
        (b'{"username": "a", "username": "b"}', "twice"),
        (b'{"username": "\xff"}', "utf-8"),
        (b'{"username": 1e999}', "out of range"),
        (b'{"username": NaN}', "NaN"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_json_that_is_hard_to_read_is_400_at_once(web: Target, body: bytes, says: str) -> None:
    """Before: the last of two equal names won without a word; the others were refused as now."""
    with web.measured() as cost:
        answer = post(web, body, "application/json")

    assert answer.status_code == 400
    assert says in answer.json()["detail"]
    assert cost.cpu_s < MOST_CPU


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": ",".join(["a/b;q=0.1"] * 2_500)},
        {"Accept": "a/b" + ";x=y" * 6_000},
        {"Cookie": "; ".join(f"n{i}=v" for i in range(3_000))},
        {"Cookie": "sessionid=" + "a" * 25_000},
        {"X-Forwarded-For": ",".join(["1.2.3.4"] * 3_000)},
        {"Authorization": "Bearer " + "a." * 12_000},
        {"If-None-Match": ",".join(['W/"x"'] * 4_000)},
        {"Range": "bytes=" + ",".join(["0-1"] * 5_000)},
    ],
    ids=lambda headers: next(iter(headers)),
)
@pytest.mark.parametrize("path", ["/api/v1/runs", "/login", "/static/console/icon.svg"])
def test_long_headers_are_read_in_little_time(web: Target, headers: dict[str, str], path: str) -> None:
    """Before: the same; nothing here was quadratic."""
    with web.measured() as cost:
        answer = requests.get(f"{web.url}{path}", headers=headers, timeout=60)

    assert answer.status_code in {200, 206, 302, 400, 401, 406, 416}
    assert cost.cpu_s < MOST_CPU


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/runs?" + "page=" + "9" * 5_000,
        "/api/v1/workflows/" + "9" * 5_000,
        "/api/v1/workflows/" + "9" * 4_200,
        "/api/v1/runs?ordering=" + ",".join(["created_at"] * 1_500),
        "/api/v1/runs?" + "&".join(["state=failed"] * 1_500),
        "/api/v1/events?after=" + "9" * 5_000,
    ],
    ids=lambda path: path[8:30],
)
def test_long_numbers_and_lists_in_a_url_end_at_once(web: Target, path: str) -> None:
    with web.measured() as cost:
        answer = requests.get(f"{web.url}{path}", timeout=60)

    assert answer.status_code in {400, 401, 404}
    assert cost.cpu_s < MOST_CPU
