"""What can go wrong between us and Airflow, by what the caller can do about it."""

from typing import ClassVar


class AirflowError(Exception):
    """Airflow was asked and the wanted answer did not come.

    `retryable` tells whether the same call, made later, may succeed by itself.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class AirflowUnavailableError(AirflowError):
    """No answer, or one that says "not now".

    Whether the request was carried out is unknown, unless `sent` is False: then it never left us.
    """

    retryable = True

    def __init__(self, message: str, *, status: int | None = None, sent: bool = True) -> None:
        super().__init__(message, status=status)
        self.sent = sent


class AirflowProtocolError(AirflowError):
    """An answer that is not Airflow's API. Whether the request was carried out is unknown."""

    retryable = True


class AirflowAuthError(AirflowError):
    """Airflow does not accept our credentials, or our account may not do this."""


class AirflowNotFoundError(AirflowError):
    """Airflow says that there is no such DAG, run, task or attempt."""


class AirflowConflictError(AirflowError):
    """What was asked contradicts the state that Airflow is in; nothing has changed."""


class AirflowRejectedError(AirflowError):
    """Airflow understood the request and refuses it; the same request will be refused again."""
