"""Google's identity: a service account, workload identity, or whatever else its library finds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import requests

from ..access import Access, Google
from ..credentials import Credentials
from ..errors import AirflowAuthError, AirflowUnavailableError
from ..sessions import prepare
from .tokens import bearer

# What Cloud Composer asks for.
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Source:
    def __init__(self, access: Access, way: Google) -> None:
        self._access, self._way = access, way

    def fetch(self) -> Credentials:
        # Not at the top: the library is an extra.
        errors = import_module("google.auth.exceptions")
        now = time.time()
        try:
            found = self._fetch()
        except errors.GoogleAuthError as exc:
            # Without its text, which may quote the answer.
            why = f"Google gives no token ({type(exc).__name__})"
            if isinstance(exc, errors.TransportError) or (isinstance(exc, errors.RefreshError) and not _refuses(exc)):
                raise AirflowUnavailableError(why, sent=False) from None
            raise AirflowAuthError(why) from None
        except (OSError, ValueError) as exc:
            raise AirflowAuthError(f"the credentials for Google cannot be read: {type(exc).__name__}") from exc
        # `expiry` is a time of UTC without saying so.
        return bearer(str(found.token), now=now, expires_at=found.expiry and _seconds(found.expiry))

    def _fetch(self) -> Any:
        """Return the library's credentials with a token. New ones each time: they are kept elsewhere."""
        transport = import_module("google.auth.transport.requests")
        with requests.Session() as session:
            prepare(session, self._access)
            # Only to Google: the metadata server of a machine, which speaks http, is behind no proxy.
            session.proxies.pop("http", None)
            ask = _Limited(transport.Request(session), self._access.token_timeout)
            credentials = self._with_audience(ask) if self._way.audience else self._with_scope(ask)
            credentials.refresh(ask)
            return credentials

    def _with_scope(self, ask: Any) -> Any:
        if file := self._way.credentials_file:
            accounts = import_module("google.oauth2.service_account")
            return accounts.Credentials.from_service_account_file(file, scopes=[SCOPE])
        return import_module("google.auth").default(scopes=[SCOPE], request=ask)[0]

    def _with_audience(self, ask: Any) -> Any:
        audience = self._way.audience
        if file := self._way.credentials_file:
            accounts = import_module("google.oauth2.service_account")
            return accounts.IDTokenCredentials.from_service_account_file(file, target_audience=audience)
        return import_module("google.oauth2.id_token").fetch_id_token_credentials(audience, request=ask)


class _Limited:
    """The library's transport, with our limit in place of its two minutes."""

    def __init__(self, transport: Any, limit: float) -> None:
        self._transport, self._limit = transport, limit
        self.session = transport.session

    def __call__(self, url: str, *args: Any, timeout: float | None = None, **options: Any) -> Any:
        return self._transport(url, *args, timeout=min(timeout or self._limit, self._limit), **options)


def _refuses(exc: Any) -> bool:
    """Return whether an error holds Google's own refusal, such as `invalid_grant`."""
    answer = exc.args[-1] if exc.args else None
    return not exc.retryable and isinstance(answer, Mapping) and "error" in answer


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
