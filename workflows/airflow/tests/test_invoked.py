"""Amazon MWAA by `InvokeRestApi`: each answer that AWS's API description has, and what it cannot do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workflows.airflow import AirflowClient, Timeout, errors
from workflows.airflow.access import INVOKE, Mwaa
from workflows.airflow.invoked import BATCH_SIZE
from workflows.airflow.probes import AuthManager

from .aws import Aws, refusal, wrapped
from .scripted import HangUp, Hold, Reply, ScriptedAirflow, paged, run_json, task_json

RUN = ("etl", "svops__1")
RUN_PATH = "/dags/etl/dagRuns/svops__1"
LOG_PATH = f"{RUN_PATH}/taskInstances/load/logs/1"
LIMITS = "it gives at most 6 MB, within 10 s"


@pytest.fixture
def aws(airflow: ScriptedAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    airflow.runs[RUN] = run_json(*RUN)
    airflow.logins = 1
    # Each request of AWS is one to its API.
    with ScriptedAirflow(api="/restapi") as server:
        aws = Aws(airflow, server)
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        yield aws


@pytest.fixture
def client(aws: Aws) -> Iterator[AirflowClient]:
    with AirflowClient(aws.access(), timeout=Timeout(connect=30, read=30)) as client:
        yield client


def test_requests_are_signed_calls_that_airflow_answers(aws: Aws, client: AirflowClient) -> None:
    assert client.version() == "3.3.2"
    assert client.runs.get(*RUN).state == "queued"

    assert aws.asked[-1] == {"Path": RUN_PATH, "Method": "GET"}
    [signature] = {request.headers["Authorization"].split("/")[0] for request in aws.server.requests}
    assert signature == "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE"
    assert {request.raw_path for request in aws.server.requests} == {"/restapi/prod"}


def test_queries_and_bodies_are_json(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.answers["GET", "/dags"] = paged("dags", [])
    aws.airflow.answers["PATCH", RUN_PATH] = run_json(*RUN, state="failed")

    assert client.dags.list(tags=["a", "b"], paused=False) == []
    assert aws.asked[-1]["QueryParameters"] == {
        "limit": 100,
        "offset": 0,
        "order_by": "dag_id",
        "paused": "false",
        "tags": ["a", "b"],
    }
    assert client.runs.set_state(*RUN, "failed").state == "failed"
    assert aws.asked[-1] == {"Path": RUN_PATH, "Method": "PATCH", "Body": {"state": "failed"}}


def test_a_name_with_a_time_is_sent_as_it_is(aws: Aws, client: AirflowClient) -> None:
    run_id = "scheduled__2026-11-23T00:00:00+00:00"
    aws.airflow.runs["etl", run_id] = run_json("etl", run_id)

    assert client.runs.get("etl", run_id).dag_run_id == run_id

    assert aws.asked[-1]["Path"] == f"/dags/etl/dagRuns/{run_id}"


def test_an_answer_without_a_body_is_one(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.runs[RUN]["state"] = "success"

    client.runs.delete(*RUN)

    assert aws.paths == [("GET", RUN_PATH), ("DELETE", RUN_PATH)]


def test_what_is_for_airflow_alone_does_not_go_to_aws(aws: Aws) -> None:
    with AirflowClient(aws.access(headers=(("X-Secret", "s3cret"),))) as client:
        client.version()

    assert all("X-Secret" not in request.headers for request in aws.server.requests)


def test_airflow_2_is_asked_with_its_own_words(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.api, aws.airflow.version = "/api/v1", "2.10.3"
    aws.airflow.answers["GET", "/dags"] = paged("dags", [])

    assert client.version() == "2.10.3"
    assert client.dags.list() == []
    assert aws.paths == [("GET", "/dags")]


def test_its_auth_manager_is_known_without_asking(aws: Aws, client: AirflowClient) -> None:
    assert client.probes.auth_manager() == AuthManager.FAB
    assert client.probes.clock_ahead() is None
    assert aws.paths == []


def test_an_environment_with_another_api_is_noticed(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.api, aws.airflow.version = "/api/v1", "2.10.3"
    assert client.version() == "2.10.3"

    aws.airflow.api, aws.airflow.version = "/api/v2", "3.0.6"
    with pytest.raises(errors.AirflowUnavailableError):
        client.version()

    assert client.version() == "3.0.6"


# --- Airflow's own refusals, as AWS passes them on -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(404, {"detail": "no such run"}), errors.AirflowNotFoundError, "no such run"),
        (Reply(409, {"detail": "not now"}), errors.AirflowConflictError, "not now"),
        (Reply(400, {"detail": "Bad"}), errors.AirflowRejectedError, "Bad"),
        (
            Reply(422, {"detail": [{"loc": ["body", "conf"], "msg": "wrong"}]}),
            errors.AirflowRejectedError,
            "conf: wrong",
        ),
        (Reply(401, {"detail": "Who?"}), errors.AirflowAuthError, "Who?"),
        (Reply(404, {"message": "no backend"}), errors.AirflowUnavailableError, "a 404 that is not Airflow's"),
        (Reply(429, {"detail": "slowly"}), errors.AirflowUnavailableError, "slowly"),
        (Reply(500, {"detail": "broken"}), errors.AirflowUnavailableError, "broken"),
        (
            Reply(504, None),
            errors.AirflowUnavailableError,
            f"InvokeRestApi has no answer of Airflow: HTTP 504 Gateway Timeout ({LIMITS})",
        ),
    ],
)
def test_a_refusal_of_airflow_means_what_it_always_means(
    aws: Aws, client: AirflowClient, reply: Reply, kind: type[errors.AirflowError], message: str
) -> None:
    aws.answers.append(wrapped(reply))

    with pytest.raises(errors.AirflowError) as refused:
        client.runs.get(*RUN)

    assert (type(refused.value), refused.value.message) == (kind, message)
    assert refused.value.status == reply.status


def test_a_missing_right_in_airflow_is_no_missing_right_in_aws(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.answers["GET", RUN_PATH] = lambda _: Reply(403, {"detail": "Forbidden"})
    aws.airflow.answers["GET", "/dags"] = paged("dags", [])

    with pytest.raises(errors.AirflowForbiddenError):
        client.runs.get(*RUN)

    aws.airflow.answers["GET", "/dags"] = lambda _: Reply(403, {"detail": "Forbidden"})
    with pytest.raises(errors.AirflowAuthError):
        client.runs.get(*RUN)


def test_a_run_that_is_there_already_is_found(aws: Aws, client: AirflowClient) -> None:
    run = client.runs.trigger("etl", dag_run_id="svops__1", conf={})

    assert (run.dag_id, run.dag_run_id) == RUN
    assert aws.paths == [("POST", "/dags/etl/dagRuns"), ("GET", RUN_PATH)]


# --- What AWS itself says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "message", "status"),
    [
        (
            refusal("AccessDeniedException", 403),
            errors.AirflowAuthError,
            "AWS refuses InvokeRestApi (AccessDeniedException)",
            403,
        ),
        (
            refusal("ResourceNotFoundException", 404),
            errors.AirflowAuthError,
            "AWS refuses InvokeRestApi (ResourceNotFoundException)",
            404,
        ),
        (
            refusal("SignatureDoesNotMatch", 403),
            errors.AirflowAuthError,
            "AWS refuses InvokeRestApi (SignatureDoesNotMatch)",
            403,
        ),
        (
            refusal("ThrottlingException", 400),
            errors.AirflowUnavailableError,
            "AWS allows no more calls of InvokeRestApi now (ThrottlingException)",
            429,
        ),
        (
            refusal("TooManyRequestsException", 429),
            errors.AirflowUnavailableError,
            "AWS allows no more calls of InvokeRestApi now (TooManyRequestsException)",
            429,
        ),
        (
            refusal("ValidationException", 400, "Update your environment to use InvokeRestApi"),
            errors.AirflowLimitError,
            "AWS refuses this call of InvokeRestApi: Update your environment to use InvokeRestApi",
            400,
        ),
        (
            refusal("InternalServerException", 500),
            errors.AirflowUnavailableError,
            f"InvokeRestApi has no answer of Airflow (InternalServerException; {LIMITS})",
            500,
        ),
        (
            refusal("ServiceUnavailableException", 503),
            errors.AirflowUnavailableError,
            f"InvokeRestApi has no answer of Airflow (ServiceUnavailableException; {LIMITS})",
            503,
        ),
        (
            refusal("RestApiServerException", 400),
            errors.AirflowUnavailableError,
            f"InvokeRestApi has no answer of Airflow (RestApiServerException; {LIMITS})",
            500,
        ),
        (
            Reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
            errors.AirflowUnavailableError,
            f"InvokeRestApi has no answer of Airflow (502; {LIMITS})",
            502,
        ),
        (
            Reply(200, {"message": "ok"}),
            errors.AirflowProtocolError,
            "the answer of InvokeRestApi has no RestApiStatusCode",
            None,
        ),
    ],
)
def test_each_answer_of_aws_has_its_meaning(
    aws: Aws,
    client: AirflowClient,
    reply: Reply,
    kind: type[errors.AirflowError],
    message: str,
    status: int | None,
) -> None:
    aws.answers.append(reply)

    with pytest.raises(errors.AirflowError) as refused:
        client.runs.get(*RUN)

    assert (type(refused.value), refused.value.message, refused.value.status) == (kind, message, status)
    assert len(aws.paths) == 1


def test_a_throttled_start_was_not_sent_to_airflow(aws: Aws, client: AirflowClient) -> None:
    aws.answers.append(refusal("ThrottlingException", 429))

    with pytest.raises(errors.AirflowUnavailableError) as refused:
        client.runs.set_state(*RUN, "failed")

    assert refused.value.sent is False


def test_a_path_that_aws_finds_too_long_is_said_to_be(aws: Aws, client: AirflowClient) -> None:
    aws.answers.append(refusal("ValidationException", 400, "Member must have length less than or equal to 64"))

    with pytest.raises(errors.AirflowLimitError) as refused:
        client.tasks.get(*RUN, "t" * 40)

    length = len(f"{RUN_PATH}/taskInstances/") + 40
    expected = f"InvokeRestApi takes no path of {length} characters: at most 64 are documented"
    assert refused.value.message == expected
    assert not refused.value.retryable


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_credentials_that_were_rotated_are_looked_for_again(
    aws: Aws, client: AirflowClient, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    client.version()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
    aws.answers.append(refusal(code, 403))

    assert client.runs.get(*RUN).state == "queued"
    assert "AKIANEW" in aws.server.last().headers["Authorization"]

    aws.answers.extend([refusal(code, 403)] * 2)
    with pytest.raises(errors.AirflowAuthError, match=code):
        client.runs.get(*RUN)


def test_without_credentials_of_aws_nothing_is_asked(
    aws: Aws, client: AirflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(errors.AirflowAuthError, match=r"^InvokeRestApi is not called \(NoCredentialsError\)$"):
        client.version()

    assert aws.asked == []


def test_without_a_region_nothing_is_asked(aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    way = Mwaa(environment="prod", method=INVOKE)

    with (
        AirflowClient(replace(aws.access(), way=way)) as client,
        pytest.raises(errors.AirflowAuthError, match=r"^InvokeRestApi is not called \(NoRegionError\)$"),
    ):
        client.version()


# --- The connection to AWS -----------------------------------------------------------------------------------------


def test_a_connection_that_aws_has_closed_is_no_outage_for_a_read(aws: Aws, client: AirflowClient) -> None:
    client.version()
    aws.server.next_api_calls.append(HangUp(after_doing_it=False))

    assert client.runs.get(*RUN).state == "queued"


def test_a_change_is_not_sent_twice(aws: Aws, client: AirflowClient) -> None:
    client.version()
    aws.server.next_api_calls.append(HangUp(after_doing_it=True))

    with pytest.raises(errors.AirflowUnavailableError) as lost:
        client.runs.set_state(*RUN, "failed")

    assert lost.value.sent
    assert aws.paths == [("PATCH", RUN_PATH)]


def test_an_aws_that_hangs_is_left_in_time(aws: Aws) -> None:
    with AirflowClient(aws.access(), timeout=Timeout(read=0.2)) as client:
        client.version()
        hold = Hold()
        aws.server.next_api_calls.append(hold)
        with pytest.raises(errors.AirflowUnavailableError, match="ReadTimeout") as late:
            client.runs.get(*RUN)
        hold.released.set()

    assert late.value.sent


def test_an_aws_that_is_not_reached_was_not_asked(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_MWAA", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        with AirflowClient(aws.access()) as client, pytest.raises(errors.AirflowUnavailableError) as refused:
            client.version()

    assert refused.value.sent is False


# --- What it cannot do ---------------------------------------------------------------------------------------------


def lines(client: AirflowClient) -> list[str]:
    return [line.text for line in client.tasks.log_lines(*RUN, "load", try_number=1)]


ENTRIES = [
    {"event": "::group::Log message source details", "sources": ["s3://logs"]},
    {"event": "::endgroup::"},
    {"timestamp": "2026-11-23T06:39:35Z", "level": "info", "event": "hello\nworld"},
]


@pytest.mark.parametrize(
    "body",
    [
        {"content": ENTRIES, "continuation_token": None},
        {"content": ENTRIES, "continuation_token": "there may be more later"},
        {"content": [json.dumps(entry) for entry in ENTRIES], "continuation_token": None},
        "\n".join(json.dumps(entry) for entry in ENTRIES),
    ],
    ids=["entries", "of a running task", "texts", "ndjson"],
)
def test_a_log_is_read_in_each_form_that_airflow_3_gives(aws: Aws, client: AirflowClient, body: Any) -> None:
    aws.airflow.answers["GET", LOG_PATH] = body

    assert lines(client) == ["hello\nworld"]


TEXT = "*** Found logs in s3\n[2026-11-23T06:39:35.254+0000] {logging_mixin.py:1} INFO - hello"


@pytest.mark.parametrize(
    "body",
    [{"content": str([("worker-1", TEXT)]), "continuation_token": "x"}, {"content": f"worker-1\n{TEXT}"}, f"w\n{TEXT}"],
    ids=["hosts and texts", "text in JSON", "text"],
)
def test_a_log_is_read_in_each_form_that_airflow_2_gives(aws: Aws, client: AirflowClient, body: Any) -> None:
    aws.airflow.api, aws.airflow.version = "/api/v1", "2.10.3"
    aws.airflow.answers["GET", LOG_PATH] = body

    assert lines(client) == ["*** Found logs in s3", "hello"]


def test_something_that_is_no_log_is_not_taken_for_one(aws: Aws, client: AirflowClient) -> None:
    aws.airflow.answers["GET", LOG_PATH] = {"logs": []}

    with pytest.raises(errors.AirflowShapeError, match="no log"):
        lines(client)


@pytest.mark.parametrize(
    "reply",
    [
        wrapped(Reply(500, {"detail": "broken"})),
        wrapped(Reply(504, None)),
        refusal("RestApiServerException", 400),
        refusal("InternalServerException", 500),
        refusal("RequestEntityTooLargeException", 413),
    ],
)
def test_a_log_that_is_too_much_is_no_outage(aws: Aws, client: AirflowClient, reply: Reply) -> None:
    aws.answers.append(reply)

    with pytest.raises(errors.AirflowLimitError, match=r"^InvokeRestApi of MWAA does not give this log \(HTTP 50\d\)"):
        lines(client)


@pytest.mark.parametrize("status", [403, 404])
def test_a_log_that_is_refused_is_refused(aws: Aws, client: AirflowClient, status: int) -> None:
    aws.airflow.answers["GET", LOG_PATH] = lambda _: Reply(status, {"detail": "no"})
    aws.airflow.answers["GET", "/dags"] = paged("dags", [])

    kind = {403: errors.AirflowForbiddenError, 404: errors.AirflowNotFoundError}[status]
    with pytest.raises(kind):
        lines(client)


def test_a_throttled_log_may_be_read_later(aws: Aws, client: AirflowClient) -> None:
    aws.answers.append(refusal("ThrottlingException", 429))

    with pytest.raises(errors.AirflowUnavailableError):
        lines(client)


def test_pages_are_small_enough_for_its_limit(aws: Aws, client: AirflowClient) -> None:
    names = [f"t{number}" for number in range(BATCH_SIZE + 1)]
    rows = [task_json("etl", f"svops__{number}", name) for name in names for number in (1, 2)]
    aws.airflow.answers["POST", "/dags/~/dagRuns/~/taskInstances/list"] = paged("task_instances", rows)

    tasks = client.tasks.list(dag_run_ids={"etl": ["svops__1", "svops__2"]})

    assert len(tasks) == 2 * len(names)
    bodies = [call["Body"] for call in aws.asked if "Body" in call]
    assert {body["page_limit"] for body in bodies} == {BATCH_SIZE}
    assert len(bodies) == 3


def test_what_is_outside_of_the_rest_api_is_not_there(aws: Aws, client: AirflowClient) -> None:
    with pytest.raises(errors.AirflowNotFoundError, match="InvokeRestApi reaches only the REST API of Airflow"):
        client.dags.structure("etl")

    assert aws.paths == []
