"""Questions about Airflow itself, and requests that change nothing and show whether others would be allowed."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import quote

from .connection import Connection
from .errors import AirflowNotFoundError, AirflowProtocolError, AirflowRejectedError
from .http import Params
from .reading import Record


class AuthManager(StrEnum):
    """What decides in Airflow who may do what."""

    FAB = "FAB"
    SIMPLE = "SimpleAuthManager"
    KEYCLOAK = "Keycloak"
    UNKNOWN = "unknown"


class Probes:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clock_ahead(self) -> timedelta | None:
        """Return by how much Airflow's clock is ahead of ours, to half a second and the time of the request."""
        before = datetime.now(UTC)
        date = self._connection.date()
        after = datetime.now(UTC)
        try:
            # Its fraction is cut off.
            theirs = parsedate_to_datetime(date) + timedelta(seconds=0.5)
        except ValueError:
            return None
        return theirs - (before + (after - before) / 2)

    def auth_manager(self) -> AuthManager:
        """Return the auth manager, which describes itself to everybody."""
        if self._connection.adapter.prefix == "/api/v1" or self._connection.is_invoked:
            return AuthManager.FAB
        try:
            described = self._connection.get_outside("/auth/openapi.json", {})
            title = Record(Record(described, "description").object("info"), "info").text("title").lower()
        except AirflowProtocolError:
            return AuthManager.UNKNOWN
        words = {"fab": AuthManager.FAB, "simple": AuthManager.SIMPLE, "keycloak": AuthManager.KEYCLOAK}
        return next((kind for word, kind in words.items() if word in title), AuthManager.UNKNOWN)

    def plugins(self) -> list[str]:
        """Return the names of the plugins that the API server has loaded."""
        rows = self._connection.pages("/plugins", "plugins", {})
        return [Record(row, "plugin").text("name") for row in rows]

    def trigger(self, dag_id: str) -> None:
        """Ask for a run that Airflow refuses as invalid. Return if our account may trigger the DAG."""
        self._try("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body=self._connection.adapter.dry_trigger)

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Ask to change a field that cannot be changed, to what it is now. Return if our account may pause the DAG."""
        mask = {"update_mask": "svops_doctor"}
        self._try("PATCH", f"/dags/{quote(dag_id, safe='')}", params=mask, body={"is_paused": paused})

    def _try(self, method: str, path: str, *, body: object, params: Params | None = None) -> None:
        try:
            self._connection.call(method, path, params=params, json=body)
        except (AirflowNotFoundError, AirflowRejectedError):
            return
        raise AirflowProtocolError("Airflow has accepted a request that is invalid")
