"""A scripted `InvokeRestApi` of AWS in front of the scripted Airflow, in the shape that AWS's API description gives."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from workflows.airflow.access import INVOKE, Access, Mwaa

from .scripted import Reply, Request, ScriptedAirflow

PATH = ("POST", "/restapi/prod")


class Aws:
    """`asked` has the calls. `answers` are sent instead of the answers to the next ones."""

    def __init__(self, airflow: ScriptedAirflow, server: ScriptedAirflow) -> None:
        self.airflow, self.server = airflow, server
        self.asked: list[Mapping[str, Any]] = []
        self.answers: deque[Reply] = deque()
        server.pages[PATH] = self._invoke

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that lead AWS's library here."""
        return {
            "AWS_ENDPOINT_URL_MWAA": self.server.url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "aws-s3cret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def access(self, **more: Any) -> Access:
        way = Mwaa(environment="prod", region="eu-west-1", method=INVOKE)
        # Nobody listens there: its web server is private.
        return Access(base_url="https://private.example.com", way=way, **more)

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Return method and path of each call, without those for the version."""
        return [(call["Method"], call["Path"]) for call in self.asked if call["Path"] != "/version"]

    def _invoke(self, request: Request) -> Reply:
        self.asked.append(request.body)
        is_about_version = request.body["Path"] == "/version"
        if self.answers and not is_about_version:
            return self.answers.popleft()
        return wrapped(self._asked_of_airflow(request.body))

    def _asked_of_airflow(self, call: Mapping[str, Any]) -> Reply:
        query = call.get("QueryParameters", {})
        path = f"{self.airflow.api}{call['Path']}"
        return self.airflow.reply_to(
            Request(
                method=call["Method"],
                path=path,
                raw_path=path,
                query={name: [str(one) for one in _each(value)] for name, value in query.items()},
                # AWS signs in to Airflow itself.
                headers={"Authorization": "Bearer token-1"},
                body=call.get("Body"),
            )
        )


def wrapped(reply: Reply) -> Reply:
    """Return what AWS makes of an answer of Airflow."""
    body = json.loads(reply.body) if isinstance(reply.body, bytes) else reply.body
    said = {"RestApiStatusCode": reply.status, "RestApiResponse": body}
    if reply.status < 400:
        return Reply(200, said)
    kind = "RestApiClientException" if reply.status < 500 else "RestApiServerException"
    return Reply(400, said, {"x-amzn-ErrorType": kind})


def refusal(code: str, status: int, message: str = "no") -> Reply:
    """Return an error of AWS itself."""
    return Reply(status, {"message": message}, {"x-amzn-ErrorType": code})


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
