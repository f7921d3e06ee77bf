"""What can go wrong in calls to Airflow, grouped by what the caller can do about it."""

from http import HTTPStatus
from typing import ClassVar

from workflows.deeds import WORDS, Deed


class AirflowError(Exception):
    """A call to Airflow failed.

    `retryable` says whether the same call may succeed later.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class AirflowUnavailableError(AirflowError):
    """No answer, or one that says "not now".

    It is unknown whether Airflow has executed the request, unless `sent` is False: then it was never sent.
    """

    retryable = True

    def __init__(self, message: str, *, status: int | None = None, sent: bool = True) -> None:
        super().__init__(message, status=status)
        self.sent = sent


class AirflowBusyError(AirflowUnavailableError):
    """Airflow was not asked: all of our own connections for this kind of call are in use."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class AirflowProtocolError(AirflowError):
    """An answer that is not from Airflow's API. It is unknown whether the request was executed."""

    retryable = True


class AirflowShapeError(AirflowProtocolError):
    """An answer in JSON whose fields are not those that we know."""


class AirflowTooLargeError(AirflowError):
    """The answer has more bytes than the caller takes."""


class AirflowAuthError(AirflowError):
    """Airflow does not accept our credentials, or shows our account nothing at all."""


class AirflowForbiddenError(AirflowError):
    """Airflow accepts our credentials, but our account lacks a right. `about` says on which DAG, if it is one."""

    def __init__(self, request: str, *, about: tuple[str, Deed] | None, reason: str) -> None:
        what = f"{WORDS[about[1]]} the DAG {about[0]}" if about else request
        super().__init__(f"SVOps' user in Airflow may not {what} ({reason})", status=HTTPStatus.FORBIDDEN)
        self.about = about


class AirflowNotFoundError(AirflowError):
    """Airflow has no such DAG, run, task or attempt."""


class AirflowConflictError(AirflowError):
    """The request does not fit the state in Airflow. Nothing has changed."""


class AirflowRejectedError(AirflowError):
    """Airflow understood the request and refuses it. It will refuse the same request again."""


class AirflowLimitError(AirflowError):
    """What is between SVOps and Airflow does not do this at all. Airflow itself may."""
