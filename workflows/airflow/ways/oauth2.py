"""Client credentials (RFC 6749, 4.4) at the token endpoint of an identity provider."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from ..access import Access, OAuth2
from ..credentials import Credentials
from ..errors import AirflowAuthError, AirflowUnavailableError
from ..sessions import prepare
from .tokens import SENDABLE, bearer, seconds

# The codes of RFC 6749, 5.2. Anything else could be a text that repeats what we sent.
CODE = re.compile(r"[a-z_]{1,40}")
# The method for an Airflow with the Keycloak auth manager.
AIRFLOW = "airflow"
REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Source:
    def __init__(self, access: Access, way: OAuth2) -> None:
        self._access, self._way = access, way

    def fetch(self) -> Credentials:
        now = time.time()
        try:
            token = self._token()
        except OAuthError as exc:
            raise AirflowAuthError(f"the token endpoint refuses SVOps: {_code(exc.error)}") from None
        except requests.HTTPError as exc:
            raise _unavailable(f"HTTP {exc.response.status_code}") from exc
        except requests.JSONDecodeError as exc:
            raise _unavailable("no JSON") from exc
        except (requests.RequestException, AttributeError, TypeError, ValueError) as exc:
            # The last three: JSON of another shape, in which the library looks for its fields.
            raise _unavailable(f"no answer, {type(exc).__name__}") from exc
        value = token.get("access_token") if isinstance(token, Mapping) else None
        if not isinstance(value, str) or not SENDABLE.fullmatch(value):
            raise _unavailable("no access_token")
        return bearer(value, now=now, expires_at=_end(token, now))

    def _token(self) -> Mapping[str, Any]:
        return self._token_of_airflow() if self._way.method == AIRFLOW else self._token_of_provider()

    def _token_of_airflow(self) -> Mapping[str, Any]:
        """Ask Airflow, whose auth manager asks Keycloak: its API takes no token but its own."""
        way, limit = self._way, self._access.token_timeout
        body = {"grant_type": "client_credentials", "client_id": way.client_id, "client_secret": way.client_secret}
        with requests.Session() as session:
            prepare(session, self._access)
            answer = session.post(
                f"{self._access.base_url.rstrip('/')}/auth/token",
                json=body,
                headers=dict(self._access.headers),
                timeout=(limit, limit),
                allow_redirects=False,
            )
        if answer.status_code in REFUSALS:
            raise AirflowAuthError(f"Airflow's /auth/token refuses SVOps: HTTP {answer.status_code}")
        answer.raise_for_status()
        token: Mapping[str, Any] = answer.json()
        return token

    def _token_of_provider(self) -> Mapping[str, Any]:
        way, limit = self._way, self._access.token_timeout
        with OAuth2Session(
            client_id=way.client_id,
            client_secret=way.client_secret,
            scope=way.scope or None,
            token_endpoint_auth_method=way.method,
        ) as session:
            prepare(session, self._access)
            more = {"audience": way.audience} if way.audience else {}
            token: Mapping[str, Any] = session.fetch_token(
                way.token_url,
                grant_type="client_credentials",
                timeout=(limit, limit),
                allow_redirects=False,
                **more,
            )
            return token


def _end(token: Mapping[str, Any], now: float) -> float | None:
    lifetime = seconds(token.get("expires_in"))
    return None if lifetime is None else now + lifetime


def _code(error: object) -> str:
    return error if isinstance(error, str) and CODE.fullmatch(error) else "an error without a known code"


def _unavailable(why: str) -> AirflowUnavailableError:
    return AirflowUnavailableError(f"the token endpoint gives no token ({why})", sent=False)
