"""What differs between Airflow's two REST APIs; everything else is in `client`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

from .http import Params, Wire
from .login import Login
from .tasklog import Ending
from .types import LogChunk, LogLine


class Adapter(Protocol):
    """One API version. Methods that take `data` translate its JSON into the words of `/api/v2`."""

    prefix: ClassVar[str]
    health_path: ClassVar[str]
    warm_up_path: ClassVar[str | None]
    clear_answers_references_only: ClassVar[bool]
    task_feed: ClassVar[Params]
    task_batch: ClassVar[Mapping[str, str]]
    log_type: ClassVar[str]

    def login(self, wire: Wire, *, username: str, password: str) -> Login: ...

    def only_dags(self, dag_ids: Collection[str]) -> Params:
        """Query parameters that narrow a change feed to these DAGs or a superset of them; may be none."""

    def trigger_body(self, *, dag_run_id: str, conf: Mapping[str, Any], note: str | None) -> Mapping[str, Any]: ...

    def note_path(self, run_path: str) -> str: ...

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any: ...

    def dag(self, data: Any) -> Any: ...

    def reference(self, data: Any) -> Any: ...

    def log(self, data: Any) -> LogChunk: ...

    def log_lines(self, lines: Iterable[bytes]) -> Iterator[LogLine]:
        """The lines of a log that was answered as `log_type`, without Airflow's own about where it found them."""

    def ending(self) -> Ending: ...
