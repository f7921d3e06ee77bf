"""Airflow's REST API by AWS's `InvokeRestApi`, for an environment of Amazon MWAA whose web server is not reached.

Each request is a call of AWS's API, which hands it to Airflow and wraps the answer. AWS's library writes, signs and
reads the calls, and our own wire sends them, so that they have its limits, deadlines and connections.
"""

from __future__ import annotations

import ast
import io
import json as jsonlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import requests

from .access import Access, Mwaa
from .errors import (
    AirflowAuthError,
    AirflowError,
    AirflowLimitError,
    AirflowProtocolError,
    AirflowShapeError,
    AirflowTooLargeError,
    AirflowUnavailableError,
)
from .http import CHUNK_BYTES, MAX_REASON_CHARS, Answer, Params, RawLine, Timeout, Wire, lines_of
from .pace import Pace

# What AWS allows: https://docs.aws.amazon.com/mwaa/latest/userguide/access-mwaa-apache-airflow-rest-api.html
MOST_PER_SECOND = 10.0
ENDS_AFTER = 10.0  # seconds
# Of the API's description. AWS's own library does not check it, and AWS itself may not.
LONGEST_PATH = 64
LIMITS = "it gives at most 6 MB, within 10 s"
# Rows of a page, so that it stays far below 6 MB.
BATCH_SIZE = 200
# How AWS names a version of the API: not at all. It takes the one of the environment's Airflow.
API_PATH = re.compile(r"(/api/v[12])(/.*)")
OUTSIDE = Answer(HTTPStatus.NOT_FOUND, b'{"title": "InvokeRestApi reaches only the REST API of Airflow"}')
OTHER_API = Answer(HTTPStatus.NOT_FOUND, b"")
AIRFLOWS = ("RestApiClientException", "RestApiServerException")
# Credentials that newer ones may replace.
STALE = frozenset(
    {"ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException", "UnrecognizedClientException"}
)
UNKNOWN = frozenset({"ResourceNotFoundException"})
DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class InvokedWire(Wire):
    """A wire whose other end is AWS. It takes the paths of Airflow's REST API, of any version."""

    batch_size = BATCH_SIZE

    def __init__(self, access: Access, way: Mwaa, *, timeout: Timeout, pool_size: int, pace: Pace | None) -> None:
        # AWS says itself that it has given up, a moment later.
        patient = {
            name: max(seconds, ENDS_AFTER + 2) if seconds >= ENDS_AFTER else seconds
            for name, seconds in (("read", timeout.read), ("log_read", timeout.log_read))
        }
        # AWS is told nothing that is for Airflow.
        towards_aws = replace(access, base_url="", headers=(), client_cert="", client_key="")
        super().__init__(towards_aws, timeout=replace(timeout, **patient), pool_size=pool_size, pace=pace)
        self._way = way
        self._token_timeout = access.token_timeout
        self._client_lock = threading.Lock()
        self._client: Any = None

    def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        at_most: int | None = None,
    ) -> Answer:
        """Send one request and return Airflow's answer, or AWS' refusal as the error that it means."""
        matched = API_PATH.fullmatch(path)
        if matched is None or form is not None or content is not None:
            return OUTSIDE
        answer = self._invoke(method, matched[2], params, json)
        if at_most is not None and len(answer.body) > at_most:
            raise AirflowTooLargeError(f"Airflow's answer is larger than {at_most} bytes")
        is_other = matched[2] == "/version" and answer.is_success and not _is_of(matched[1], answer)
        return OTHER_API if is_other else answer

    @contextmanager
    def lines(
        self, path: str, *, params: Params | None, headers: Mapping[str, str]
    ) -> Iterator[tuple[Answer, Iterator[RawLine]]]:
        try:
            answer = self.exchange("GET", path, params=params)
        except AirflowUnavailableError as exc:
            if exc.status is None or exc.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise
            raise _no_log(exc.status) from exc
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _no_log(answer.status)
        if answer.is_success:
            yield Answer(answer.status, b""), lines_of(_pieces(_log(answer.json())))
        else:
            yield answer, iter(())

    def _invoke(self, method: str, path: str, params: Params | None, json: object) -> Answer:
        # Names of runs may have a colon and a plus, which are good in a path. AWS quotes what is not.
        call: dict[str, Any] = {"Name": self._way.environment, "Path": unquote(path), "Method": method}
        if params:
            call["QueryParameters"] = dict(params)
        if json is not None:
            call["Body"] = json
        client = self._aws()
        try:
            said = self._call(client, call)
            if _code(said) not in STALE:
                return _meant(said, call["Path"])
            self._forget(client)
        except AirflowUnavailableError as exc:
            if method != "GET" or not _was_dropped(exc):
                raise
        return _meant(self._call(self._aws(), call), call["Path"])

    def _call(self, client: Any, call: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what AWS says, also if it is an error."""
        errors = import_module("botocore.exceptions")
        try:
            said: Mapping[str, Any] = client.invoke_rest_api(**call)
        except errors.ClientError as exc:
            return dict(exc.response)
        except errors.BotoCoreError as exc:
            raise _not_called(exc, errors) from exc
        return said

    def _aws(self) -> Any:
        """Return the library's client. It renews the credentials of a role itself."""
        with self.turn(self._client_lock):
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _forget(self, client: Any) -> None:
        """Look for credentials again: they may have been rotated."""
        with self.turn(self._client_lock):
            if self._client is client:
                self._client = None

    def _new_client(self) -> Any:
        # Not at the top: the library is an extra.
        errors = import_module("botocore.exceptions")
        limit = self._token_timeout
        config = import_module("botocore.config").Config(
            connect_timeout=limit, read_timeout=limit, retries={"total_max_attempts": 1}
        )
        session = import_module("botocore.session").get_session()
        session.register_component("data_loader", _descriptions())
        try:
            client = session.create_client("mwaa", region_name=self._way.region or None, config=config)
        except errors.BotoCoreError as exc:
            raise _not_called(exc, errors) from exc
        client.meta.events.register("before-send.mwaa.InvokeRestApi", self._send)
        return client

    def _send(self, request: Any, **_: object) -> Any:
        """Send a call that the library has signed, and give it the answer to read."""
        headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers.items()}
        answer = super().exchange(request.method, request.url, content=request.body, headers=headers)
        library = import_module("botocore.awsrequest")
        return library.AWSResponse(request.url, answer.status, dict(answer.headers), _Raw(answer.body))


@cache
def _descriptions() -> Any:
    """Return what reads the library's descriptions of AWS's APIs, which takes 0.2 s when it is not shared."""
    return import_module("botocore.session").get_session().get_component("data_loader")


class _Raw(io.BytesIO):
    """A body in the form in which AWS's library reads it."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def _meant(said: Mapping[str, Any], path: str) -> Answer:
    """Return the answer of Airflow, also if it is an error that AWS passes on. Else raise what AWS means."""
    return _refusal(said, path) if "Error" in said else _airflows(said)


def _was_dropped(exc: AirflowUnavailableError) -> bool:
    """Return whether AWS has closed a connection that was kept. A time that is over is something else."""
    return exc.sent and isinstance(exc.__cause__, requests.ConnectionError)


def _airflows(said: Mapping[str, Any]) -> Answer:
    """Return Airflow's answer, which AWS has wrapped."""
    status, body = said.get("RestApiStatusCode"), said.get("RestApiResponse")
    if not isinstance(status, int):
        raise AirflowProtocolError("the answer of InvokeRestApi has no RestApiStatusCode")
    return Answer(status, b"" if body in (None, "") else jsonlib.dumps(body).encode())


def _refusal(said: Mapping[str, Any], path: str) -> Answer:
    code, status = _code(said), int(said["ResponseMetadata"]["HTTPStatusCode"])
    if code in AIRFLOWS and isinstance(said.get("RestApiStatusCode"), int):
        answer = _airflows(said)
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR or answer.problem is not None:
            return answer
        why = f"InvokeRestApi has no answer of Airflow: {answer.reason} ({LIMITS})"
        raise AirflowUnavailableError(why, status=answer.status)
    if code == "ValidationException":
        raise AirflowLimitError(_invalid(said, path), status=status)
    if code in UNKNOWN or status in DENIED or code in STALE:
        raise AirflowAuthError(f"AWS refuses InvokeRestApi ({code})", status=status)
    is_throttled = "Throttl" in code or code == "TooManyRequestsException"
    if is_throttled or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise AirflowUnavailableError(
            f"AWS allows no more calls of InvokeRestApi now ({code})", status=HTTPStatus.TOO_MANY_REQUESTS, sent=False
        )
    status = max(status, int(HTTPStatus.INTERNAL_SERVER_ERROR))
    raise AirflowUnavailableError(f"InvokeRestApi has no answer of Airflow ({code}; {LIMITS})", status=status)


def _invalid(said: Mapping[str, Any], path: str) -> str:
    if len(path) > LONGEST_PATH:
        return f"InvokeRestApi takes no path of {len(path)} characters: at most {LONGEST_PATH} are documented"
    return f"AWS refuses this call of InvokeRestApi: {said['Error'].get('Message', '')}"[:MAX_REASON_CHARS]


def _code(said: Mapping[str, Any]) -> str:
    return str(said.get("Error", {}).get("Code", "no code"))


def _not_called(exc: Exception, errors: Any) -> AirflowError:
    """Return the error of the library, which has not called AWS, as one of ours."""
    why = f"InvokeRestApi is not called ({type(exc).__name__})"
    lacking = (errors.NoCredentialsError, errors.NoRegionError, errors.PartialCredentialsError)
    return AirflowAuthError(why) if isinstance(exc, lacking) else AirflowUnavailableError(why, sent=False)


def _is_of(prefix: str, answer: Answer) -> bool:
    """Return whether an Airflow of this version has this API."""
    said = answer.json()
    is_2 = isinstance(said, dict) and str(said.get("version", "")).startswith("2.")
    return is_2 == (prefix == "/api/v1")


def _no_log(status: int) -> AirflowLimitError:
    return AirflowLimitError(f"InvokeRestApi of MWAA does not give this log (HTTP {status}): {LIMITS}", status=status)


def _log(said: object) -> bytes:
    """Return a log that came as JSON in the form in which Airflow streams it."""
    match said:
        case {"content": list(entries)}:
            texts = (entry if isinstance(entry, str) else jsonlib.dumps(entry) for entry in entries)
            return "\n".join(texts).encode()
        case {"content": str(text)}:
            return _of_hosts(text).encode()
        case str(text):
            return text.encode()
    raise AirflowShapeError("InvokeRestApi gives something that is no log")


def _of_hosts(text: str) -> str:
    """Return the text of a log of 2.x, whose JSON has the printed form of a list in Python: host and text of each."""
    try:
        parts = [(str(host), str(part)) for host, part in ast.literal_eval(text)]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return "\n".join([parts[0][0], *(part for _, part in parts)]) if parts else ""


def _pieces(whole: bytes) -> Iterator[bytes]:
    return (whole[start : start + CHUNK_BYTES] for start in range(0, len(whole), CHUNK_BYTES))
