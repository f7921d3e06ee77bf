"""What the client does when the network or Airflow misbehaves."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from workflows.airflow import AirflowClient, Timeout, errors
from workflows.deeds import Deed

from .scripted import Drip, HangUp, Hold, Reply, ScriptedAirflow, by_password, run_json, unused_port

RUN = ("etl", "svops__1")


def trigger(client: AirflowClient, **conf: Any) -> str:
    return client.runs.trigger("etl", dag_run_id="svops__1", conf=conf).dag_run_id


def test_trigger_after_a_lost_answer_returns_the_run_that_exists(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    with pytest.raises(errors.AirflowUnavailableError) as lost:
        trigger(client, size=1)

    run = client.runs.trigger("etl", dag_run_id="svops__1", conf={"size": 1})

    assert lost.value.retryable
    assert (run.dag_run_id, run.conf) == ("svops__1", {"size": 1})
    assert list(airflow.runs) == [RUN]


def test_a_post_whose_connection_drops_is_not_repeated(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=False))

    with pytest.raises(errors.AirflowUnavailableError, match=r"^no answer from Airflow: ConnectionError$"):
        trigger(client)

    assert airflow.calls == [("POST", "/dags/etl/dagRuns")]
    assert airflow.runs == {}


def test_a_get_whose_connection_drops_is_repeated_once(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    trigger(client)
    airflow.next_api_calls.append(HangUp(after_doing_it=False))

    run = client.runs.get(*RUN)

    assert run.state == "queued"
    assert airflow.calls[1:] == [("GET", "/dags/etl/dagRuns/svops__1")] * 2


def test_a_get_whose_connection_drops_twice_is_given_up(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.extend([HangUp(after_doing_it=False)] * 2)

    with pytest.raises(errors.AirflowUnavailableError):
        client.runs.get(*RUN)

    assert len(airflow.calls) == 2


def test_a_get_that_times_out_is_not_repeated(airflow: ScriptedAirflow, hasty_client: AirflowClient) -> None:
    held = Hold()
    airflow.next_api_calls.append(held)

    with pytest.raises(errors.AirflowUnavailableError, match="ReadTimeout"):
        hasty_client.runs.get(*RUN)

    held.released.set()
    assert len(airflow.calls) == 1


def test_an_answer_that_only_drips_ends_at_the_total_timeout(
    airflow: ScriptedAirflow, hasty_client: AirflowClient
) -> None:
    airflow.next_api_calls.append(Drip(pace=0.02))

    with pytest.raises(errors.AirflowUnavailableError, match="did not end in time"):
        hasty_client.runs.get(*RUN)


def test_an_answer_that_only_drips_ends_with_the_time_that_its_thread_was_given(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    client.version()
    airflow.next_api_calls.append(Drip(pace=0.02))

    with pytest.raises(errors.AirflowUnavailableError, match="did not end in time"), client.within(0.3):
        client.runs.get(*RUN)

    assert len(airflow.calls) == 1


def test_no_request_is_sent_once_the_time_has_passed_and_all_are_sent_afterwards(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    trigger(client)
    airflow.requests.clear()

    with pytest.raises(errors.AirflowUnavailableError, match="no time left") as late, client.within(0):
        client.runs.get(*RUN)
    assert (late.value.sent, airflow.calls) == (True, [])

    assert client.runs.get(*RUN).dag_run_id == RUN[1]
    assert airflow.calls == [("GET", "/dags/etl/dagRuns/svops__1")]


def test_an_address_where_nobody_listens_is_unavailable() -> None:
    with unused_port() as port, pytest.raises(errors.AirflowUnavailableError) as refused:
        AirflowClient(by_password(f"http://127.0.0.1:{port}", "a", "b")).version()

    assert refused.value.retryable
    assert refused.value.status is None


def test_a_conflict_that_is_not_about_our_run_id_is_a_rejection(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    conflict = {"detail": {"reason": "Unique constraint violation", "statement": "hidden", "orig_error": "x"}}
    airflow.next_api_calls.append(Reply(409, conflict))

    with pytest.raises(errors.AirflowRejectedError, match=r"^Unique constraint violation$") as refused:
        trigger(client)

    assert refused.value.status == 409
    assert airflow.calls == [("POST", "/dags/etl/dagRuns"), ("GET", "/dags/etl/dagRuns/svops__1")]
    assert airflow.runs == {}


def test_a_logical_date_that_another_run_has_is_a_rejection(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    date = datetime(2026, 3, 1, tzinfo=UTC)
    client.runs.trigger("etl", dag_run_id="svops__1", conf={}, logical_date=date)

    # Our own run again, as after a lost answer.
    again = client.runs.trigger("etl", dag_run_id="svops__1", conf={}, logical_date=date)
    with pytest.raises(errors.AirflowRejectedError) as refused:
        client.runs.trigger("etl", dag_run_id="svops__2", conf={}, logical_date=date)

    assert again.dag_run_id == "svops__1"
    assert refused.value.message == "another run of the DAG has the logical date 2026-03-01T00:00:00+00:00"
    assert list(airflow.runs) == [("etl", "svops__1")]


def test_a_conflict_whose_run_cannot_be_looked_up_stays_open(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.extend([Reply(409, {"detail": "exists"}), Reply(503, b"busy")])

    with pytest.raises(errors.AirflowUnavailableError) as unknown:
        trigger(client)

    assert unknown.value.retryable


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(500, b"<html>Ooops</html>"), errors.AirflowUnavailableError, "HTTP 500 Internal Server Error"),
        (Reply(503, {"detail": "later"}), errors.AirflowUnavailableError, "later"),
        (Reply(429), errors.AirflowUnavailableError, "HTTP 429 Too Many Requests"),
        (Reply(404, b"404 page not found"), errors.AirflowUnavailableError, "a 404 that is not Airflow's"),
        (Reply(404, {"error": "x"}), errors.AirflowUnavailableError, "a 404 that is not Airflow's"),
        (Reply(404, {"detail": "no such run"}), errors.AirflowNotFoundError, "no such run"),
        (Reply(409, {"detail": "still running"}), errors.AirflowConflictError, "still running"),
        (Reply(403, {"detail": "Forbidden"}), errors.AirflowAuthError, "Forbidden"),
        (Reply(302, None, {"Location": "/login"}), errors.AirflowProtocolError, "HTTP 302 Found"),
        (Reply(200, b"<html>Sign in</html>"), errors.AirflowProtocolError, "Airflow's answer is not JSON"),
        (Reply(200, b'{"dag_id": "et'), errors.AirflowProtocolError, "Airflow's answer is not JSON"),
        (
            Reply(200, [1]),
            errors.AirflowShapeError,
            "DAG run: expected an object, got list",
        ),
        (
            Reply(200, run_json("etl", "r", state=None)),
            errors.AirflowShapeError,
            "DAG run: state should be a string, got NoneType",
        ),
        (
            Reply(200, run_json("etl", "r", end_date="yesterday")),
            errors.AirflowShapeError,
            "DAG run: end_date should be an ISO 8601 time, got str",
        ),
        (
            Reply(400, {"detail": "Invalid input for param n: -5 is too small\n\nFailed validating 'minimum'"}),
            errors.AirflowRejectedError,
            "Invalid input for param n: -5 is too small",
        ),
        (
            Reply(422, {"detail": [{"loc": ["body", "state"], "msg": "bad"}, {"loc": ["body"], "msg": "worse"}]}),
            errors.AirflowRejectedError,
            "state: bad; worse",
        ),
        (
            Reply(400, {"detail": None, "status": 400, "title": "Bad Request", "type": "about:blank"}),
            errors.AirflowRejectedError,
            "Bad Request",
        ),
    ],
)
def test_an_answer_becomes_the_error_that_it_means(
    airflow: ScriptedAirflow,
    client: AirflowClient,
    reply: Reply,
    kind: type[errors.AirflowError],
    message: str,
) -> None:
    airflow.next_api_calls.append(reply)

    with pytest.raises(errors.AirflowError) as caught:
        client.runs.get(*RUN)

    assert (type(caught.value), caught.value.message) == (kind, message)


def test_an_expired_token_is_renewed_and_the_trigger_made_once(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    client.runs.trigger("etl", dag_run_id="svops__0", conf={})
    airflow.expire_tokens()

    assert trigger(client) == "svops__1"

    assert airflow.logins == 2
    assert list(airflow.runs) == [("etl", "svops__0"), RUN]


def test_a_token_signed_with_an_older_secret_is_renewed(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    trigger(client)
    airflow.expire_tokens(Reply(403, {"detail": "Invalid JWT token"}))

    assert client.runs.get(*RUN).state == "queued"

    assert airflow.logins == 2


def test_a_token_that_is_refused_again_is_not_renewed_for_ever(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.extend([Reply(401, {"detail": "Token Expired"})] * 2)

    with pytest.raises(errors.AirflowAuthError, match=r"^Token Expired$"):
        client.runs.get(*RUN)

    assert airflow.logins == 2
    assert len(airflow.calls) == 2


@pytest.mark.parametrize(
    ("ask", "deed", "message"),
    [
        (lambda client: trigger(client), Deed.RUN, "may not run the DAG etl"),
        (lambda client: client.runs.set_state(*RUN, "failed"), Deed.STOP, "may not stop runs of the DAG etl"),
        (lambda client: client.runs.clear(*RUN, dry_run=False), Deed.RETRY, "may not retry runs of the DAG etl"),
        (lambda client: client.dags.set_paused("etl", True), Deed.PAUSE, "may not pause the DAG etl"),
        (lambda client: client.dags.get("etl"), Deed.SEE, "may not see the DAG etl"),
        (lambda client: client.dags.tasks("etl"), Deed.SEE_TASKS, "may not see the tasks of the DAG etl"),
        (lambda client: client.runs.get(*RUN), Deed.SEE_RUNS, "may not see runs of the DAG etl"),
        (
            lambda client: next(client.tasks.log_lines(*RUN, "extract", try_number=1)),
            Deed.READ_LOGS,
            "may not read logs of the DAG etl",
        ),
    ],
)
def test_a_missing_right_on_one_dag_names_it_and_is_no_reason_for_a_new_token(
    airflow: ScriptedAirflow, client: AirflowClient, ask: Callable[[AirflowClient], object], deed: Deed, message: str
) -> None:
    airflow.next_api_calls.append(Reply(403, {"detail": "Forbidden"}))
    airflow.answers["GET", "/dags"] = {"dags": [], "total_entries": 0}

    with pytest.raises(errors.AirflowForbiddenError) as refused:
        ask(client)

    assert refused.value.about == ("etl", deed)
    assert refused.value.message == f"SVOps' user in Airflow {message} (Forbidden)"
    assert (refused.value.status, refused.value.retryable, airflow.logins) == (403, False, 1)
    assert airflow.calls[1:] == [("GET", "/dags")]


@pytest.mark.parametrize("reply", [Reply(403, {"detail": "Forbidden"}), Reply(401, {"detail": "Not authenticated"})])
def test_a_403_of_an_airflow_that_shows_us_nothing_is_about_our_credentials(
    airflow: ScriptedAirflow, client: AirflowClient, reply: Reply
) -> None:
    airflow.next_api_calls.append(Reply(403, {"detail": "Forbidden"}))
    airflow.answers["GET", "/dags"] = lambda _: reply

    with pytest.raises(errors.AirflowAuthError, match=r"^Forbidden$"):
        trigger(client)


def test_a_403_of_a_proxy_is_about_our_credentials(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.append(Reply(403, b"<html>Sign in</html>"))

    with pytest.raises(errors.AirflowAuthError, match=r"^HTTP 403 Forbidden$"):
        trigger(client)

    assert len(airflow.calls) == 1


def test_a_missing_right_on_all_dags_is_not_about_one_of_them(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", "/dags"] = {"dags": [], "total_entries": 0}
    airflow.next_api_calls.append(Reply(403, {"detail": "Forbidden"}))

    with pytest.raises(errors.AirflowForbiddenError) as refused:
        client.runs.changed_since(datetime(2026, 3, 1, tzinfo=UTC), dag_ids=["etl"])

    assert refused.value.message == "SVOps' user in Airflow may not GET /dags/~/dagRuns (Forbidden)"
    assert refused.value.about is None


def test_an_airflow_that_lists_no_dags_for_us_is_asked_once(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", "/dags"] = lambda _: Reply(403, {"detail": "Forbidden"})

    with pytest.raises(errors.AirflowAuthError, match=r"^Forbidden$"):
        client.dags.list()

    assert airflow.calls == [("GET", "/dags")]


def test_a_wrong_password_is_reported_and_no_other_request_is_sent(airflow: ScriptedAirflow) -> None:
    client = AirflowClient(by_password(airflow.url, "admin", "wrong"))

    with client, pytest.raises(errors.AirflowAuthError, match=r"^Invalid credentials$") as refused:
        trigger(client)

    assert not refused.value.retryable
    assert airflow.calls == []


def test_threads_whose_token_expired_share_one_new_login(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    trigger(client)
    airflow.expire_tokens()

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: client.runs.get(*RUN).state, range(24)))

    assert states == ["queued"] * 24
    assert airflow.logins == 2


def test_no_more_requests_are_under_way_than_the_pool_allows(airflow: ScriptedAirflow) -> None:
    held = [Hold(), Hold()]
    airflow.runs[RUN] = run_json(*RUN)
    timeout = Timeout(connect=1, read=5)
    with (
        AirflowClient(by_password(airflow.url), timeout=timeout, pool_size=2) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        client.runs.get(*RUN)
        airflow.next_api_calls.extend(held)
        answers = [pool.submit(client.runs.get, *RUN) for _ in range(3)]
        assert all(request.arrived.wait(5) for request in held)
        under_way = len(airflow.calls) - 1
        for request in held:
            request.released.set()

        assert [answer.result(5).state for answer in answers] == ["queued"] * 3

    assert under_way == 2
    assert len(airflow.calls) == 4


def test_a_pool_that_stays_busy_is_an_error_of_our_own_and_asks_nothing(airflow: ScriptedAirflow) -> None:
    airflow.runs[RUN] = run_json(*RUN)
    timeout = Timeout(connect=1, read=0.3, total=5, slot=0.3)
    client = AirflowClient(by_password(airflow.url), timeout=timeout, pool_size=1)
    with client, ThreadPoolExecutor(1) as pool:
        client.runs.get(*RUN)
        airflow.next_api_calls.append(drip := Drip(pace=0.1))
        holder = pool.submit(client.runs.get, *RUN)
        assert drip.arrived.wait(5)

        with pytest.raises(errors.AirflowBusyError, match=r"^all connections to Airflow are in use$"):
            client.runs.get(*RUN)

        drip.ended.set()
        with pytest.raises(errors.AirflowUnavailableError):
            holder.result(5)
    assert len(airflow.calls) == 2


def test_an_airflow_upgraded_under_us_is_asked_by_its_new_api_and_no_run_is_called_gone(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    airflow_2.runs[RUN] = run_json(*RUN)
    assert client_of_2.runs.get(*RUN).dag_run_id == "svops__1"
    airflow_2.api, airflow_2.version = "/api/v2", "3.3.2"

    with pytest.raises(errors.AirflowUnavailableError):
        client_of_2.runs.get(*RUN)

    assert client_of_2.runs.get(*RUN).dag_run_id == "svops__1"
    assert client_of_2.version() == "3.3.2"


def test_a_version_that_cannot_be_found_out_now_is_found_out_later(airflow: ScriptedAirflow) -> None:
    real = airflow.api
    with AirflowClient(by_password(airflow.url)) as client:
        airflow.api = "/nothing"
        with pytest.raises(errors.AirflowUnavailableError):
            client.version()
        airflow.api = real

        assert client.version() == "3.3.2"


def test_proxies_of_the_environment_are_not_used(
    airflow: ScriptedAirflow, client: AirflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")

    assert client.version() == "3.3.2"


def test_a_redirect_is_not_followed_with_our_token(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        port = elsewhere.getsockname()[1]
        airflow.next_api_calls.append(Reply(307, None, {"Location": f"http://127.0.0.1:{port}/"}))

        with pytest.raises(errors.AirflowProtocolError):
            trigger(client)

        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.parametrize("bad", ["", ".", "..", "~", "a/b"])
def test_an_id_that_would_change_the_path_is_refused(airflow: ScriptedAirflow, client: AirflowClient, bad: str) -> None:
    with pytest.raises(errors.AirflowRejectedError):
        client.runs.get(bad, "svops__1")
    with pytest.raises(errors.AirflowRejectedError):
        client.runs.get("etl", bad)

    assert airflow.calls == []


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "ä", "x" * 251, "a\n"])
def test_a_run_id_that_airflow_cannot_take_is_not_sent(
    airflow: ScriptedAirflow, client: AirflowClient, bad: str
) -> None:
    with pytest.raises(errors.AirflowRejectedError, match="is not a run id"):
        client.runs.trigger("etl", dag_run_id=bad, conf={})

    assert airflow.calls == []


def test_values_that_json_cannot_express_are_rejected_before_they_are_sent(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    with pytest.raises(errors.AirflowRejectedError, match="JSON"):
        trigger(client, ratio=float("nan"))

    assert airflow.calls == []
