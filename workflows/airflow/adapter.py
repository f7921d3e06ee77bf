"""What differs between Airflow's two REST APIs. Everything else is in `client`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from .access import Password
from .http import Params, RawLine, Wire
from .login import Login
from .tasklog import Ending
from .types import LogLine, NewRun


class Adapter(Protocol):
    """One API version. Methods that take `data` translate its JSON into the words of `/api/v2`."""

    prefix: ClassVar[str]
    health_path: ClassVar[str]
    structure_path: ClassVar[str | None]
    clear_answers_references_only: ClassVar[bool]
    task_feed: ClassVar[Params]
    versions_path: ClassVar[str | None]
    due: ClassVar[str]
    task_batch: ClassVar[Mapping[str, str]]
    # Names in Airflow's audit log of what gives a run or a task instance a state, as its query takes them.
    mark_events: ClassVar[str | list[str]]
    log_type: ClassVar[str]
    # The body of a trigger that Airflow refuses as invalid, after it has checked our right to trigger.
    dry_trigger: ClassVar[Mapping[str, Any]]
    version: str

    def login(self, wire: Wire, way: Password) -> Login: ...

    @property
    def states_but_running(self) -> Sequence[str]:
        """Return all states of a task instance that this version can be asked for, except `running`."""

    def only_dags(self, dag_ids: Collection[str]) -> Sequence[Params]:
        """Return the query parameters of the requests that together show these DAGs, and perhaps others too."""

    def trigger_body(self, new: NewRun) -> Mapping[str, Any]: ...

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any: ...

    def dag(self, data: Any) -> Any: ...

    def task_markers(self, task_ids: Collection[str], instances: Collection[tuple[str, int]]) -> list[object]:
        """Return whole tasks and single instances in the form in which a clear takes them."""

    def reference(self, data: Any) -> Any: ...

    def log_lines(self, lines: Iterable[RawLine]) -> Iterator[LogLine]:
        """Yield the lines of a log in the format `log_type`, without Airflow's own lines about where it found them."""

    def ending(self) -> Ending: ...
