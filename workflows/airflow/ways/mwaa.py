"""Amazon MWAA: a web login token by AWS credentials, exchanged at Airflow for a session of its pages.

`..invoked` is the other method, which needs no credentials of Airflow.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from importlib import import_module
from typing import Any

from ..access import Access, Mwaa
from ..credentials import Credentials
from ..errors import AirflowAuthError, AirflowError, AirflowUnavailableError
from ..http import Answer, Timeout, Wire
from .tokens import bearer

# Where a token becomes a session: of Airflow 3, which gives a JSON Web Token, and of 2.x, which gives a cookie.
LOGIN_3, LOGIN_2 = "/pluginsv2/aws_mwaa/login", "/aws_mwaa/login"
# A session of 2.x says no end.
SESSION_SECONDS = 12 * 3600.0
DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
REFUSALS = frozenset({"ResourceNotFoundException", "ValidationException"})


class Source:
    def __init__(self, access: Access, way: Mwaa) -> None:
        limit = access.token_timeout
        self._access, self._way = access, way
        self._wire = Wire(access, timeout=Timeout(connect=limit, read=limit, total=limit), pool_size=1)

    def fetch(self) -> Credentials:
        now = time.time()
        token = self._web_token()
        answer = self._exchange(LOGIN_3, token)
        if session := _opened(answer, "_token"):
            return bearer(session, now=now)
        answer = self._exchange(LOGIN_2, token)
        if session := _opened(answer, "session"):
            return Credentials({"Cookie": f"session={session}"}, fetched_at=now, expires_at=now + SESSION_SECONDS)
        if answer.status in DENIED:
            raise AirflowAuthError(f"MWAA's sign-in refuses SVOps: {answer.reason}", status=answer.status)
        raise AirflowUnavailableError(f"MWAA's sign-in gives no session: HTTP {answer.status}", sent=False)

    def _exchange(self, path: str, token: str) -> Answer:
        try:
            return self._wire.exchange("POST", path, form={"token": token})
        except AirflowError as exc:
            raise AirflowUnavailableError(f"MWAA's sign-in: {exc}", sent=False) from exc

    def _web_token(self) -> str:
        # Not at the top: the library is an extra.
        errors = import_module("botocore.exceptions")
        try:
            answer = self._client().create_web_login_token(Name=self._way.environment)
        except errors.ClientError as exc:
            code = str(exc.response.get("Error", {}).get("Code", "no code"))
            if code in REFUSALS or exc.response["ResponseMetadata"]["HTTPStatusCode"] in DENIED:
                raise AirflowAuthError(f"AWS gives no token for MWAA ({code})") from None
            raise AirflowUnavailableError(f"AWS gives no token for MWAA ({code})", sent=False) from None
        except (errors.NoCredentialsError, errors.NoRegionError, errors.PartialCredentialsError) as exc:
            raise AirflowAuthError(f"AWS gives no token for MWAA ({type(exc).__name__})") from exc
        except errors.BotoCoreError as exc:
            raise AirflowUnavailableError(f"AWS gives no token for MWAA ({type(exc).__name__})", sent=False) from exc
        token = answer.get("WebToken")
        if not isinstance(token, str) or not token:
            raise AirflowUnavailableError("AWS gives no token for MWAA (no WebToken)", sent=False)
        return token

    def _client(self) -> Any:
        """Return a new client. The library looks for credentials again each time: they may have been rotated."""
        library = import_module("botocore.session")
        proxies = {"https": self._access.proxy} if self._access.proxy else None
        config = import_module("botocore.config").Config(
            connect_timeout=self._access.token_timeout,
            read_timeout=self._access.token_timeout,
            retries={"total_max_attempts": 2},
            proxies=proxies,
        )
        return library.get_session().create_client("mwaa", region_name=self._way.region or None, config=config)


def _opened(answer: Answer, name: str) -> str:
    """Return the cookie of a session that was opened. Pages for strangers set such a cookie too."""
    is_home = answer.status in (HTTPStatus.FOUND, HTTPStatus.SEE_OTHER) and "/login" not in answer.location
    return answer.cookies.get(name, "") if answer.status == HTTPStatus.OK or is_home else ""
