"""What Airflow tells, typed. `parse` reads the JSON of `/api/v2`; the v1 adapter translates into it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from .errors import AirflowProtocolError
from .reading import Record


@dataclass(frozen=True, kw_only=True)
class ComponentHealth:
    """One component of Airflow; `status` is None where this Airflow does not have it."""

    status: str | None
    latest_heartbeat: datetime | None

    @classmethod
    def parse(cls, data: object, *, name: str) -> Self:
        record = Record(data or {}, f"health of {name}")
        return cls(
            status=record.optional_text("status"),
            latest_heartbeat=record.time(f"latest_{name}_heartbeat"),
        )


@dataclass(frozen=True, kw_only=True)
class Health:
    metadatabase: ComponentHealth
    scheduler: ComponentHealth
    dag_processor: ComponentHealth
    triggerer: ComponentHealth

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "health")
        names = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return cls(**{name: ComponentHealth.parse(record.value(name), name=name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Dag:
    dag_id: str
    description: str | None
    is_paused: bool
    is_stale: bool
    tags: tuple[str, ...]
    owners: tuple[str, ...]
    timetable_summary: str | None
    max_active_runs: int | None
    fileloc: str

    @classmethod
    def parse(cls, data: object) -> Self:
        return cls(**_dag_fields(data))


@dataclass(frozen=True, kw_only=True)
class DagParam:
    """A parameter of a DAG. A value of None is the default None or no default; Airflow does not say which."""

    value: Any
    schema: Mapping[str, Any]
    description: str | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "DAG parameter")
        return cls(
            value=record.value("value"),
            schema=record.object("schema"),
            description=record.optional_text("description"),
        )


@dataclass(frozen=True, kw_only=True)
class DagDetails(Dag):
    params: Mapping[str, DagParam]
    doc_md: str | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "DAG")
        return cls(
            params={name: DagParam.parse(param) for name, param in record.object("params").items()},
            doc_md=record.optional_text("doc_md"),
            **_dag_fields(data),
        )


@dataclass(frozen=True, kw_only=True)
class DagTask:
    task_id: str
    downstream_task_ids: tuple[str, ...]
    operator: str | None
    trigger_rule: str | None
    retries: int
    is_mapped: bool
    pool: str | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "task")
        return cls(
            task_id=record.text("task_id"),
            downstream_task_ids=record.texts("downstream_task_ids"),
            operator=record.optional_text("operator_name"),
            trigger_rule=record.optional_text("trigger_rule"),
            retries=record.optional_integer("retries") or 0,
            is_mapped=bool(record.value("is_mapped")),
            pool=record.optional_text("pool"),
        )


@dataclass(frozen=True, kw_only=True)
class DagImportError:
    filename: str
    stack_trace: str
    timestamp: datetime | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "import error")
        return cls(
            filename=record.text("filename"),
            stack_trace=record.text("stack_trace"),
            timestamp=record.time("timestamp"),
        )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Slots that task instances share; `slots` is -1 where there is no limit."""

    name: str
    slots: int
    open_slots: int

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "pool")
        return cls(name=record.text("name"), slots=record.integer("slots"), open_slots=record.integer("open_slots"))


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """A run as Airflow sees it. `conf` is what the trigger sent, without the DAG's defaults."""

    dag_id: str
    dag_run_id: str
    state: str
    run_type: str
    conf: Mapping[str, Any]
    note: str | None
    logical_date: datetime | None
    queued_at: datetime | None
    start_date: datetime | None
    end_date: datetime | None
    triggered_by: str | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "DAG run")
        return cls(
            dag_id=record.text("dag_id"),
            dag_run_id=record.text("dag_run_id"),
            state=record.text("state"),
            run_type=record.text("run_type"),
            conf=record.object("conf"),
            note=record.optional_text("note"),
            logical_date=record.time("logical_date"),
            queued_at=record.time("queued_at"),
            start_date=record.time("start_date"),
            end_date=record.time("end_date"),
            triggered_by=record.optional_text("triggered_by"),
        )


@dataclass(frozen=True, kw_only=True)
class TaskRef:
    """Names one task instance of one run. `map_index` is -1 for a task that is not mapped."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int

    @classmethod
    def parse(cls, data: object) -> Self:
        return cls(**_ref_fields(Record(data, "task instance")))


@dataclass(frozen=True, kw_only=True)
class TaskInstance(TaskRef):
    """A task instance; its state is None until the scheduler has looked at it."""

    state: str | None
    try_number: int
    max_tries: int
    operator: str | None
    start_date: datetime | None
    end_date: datetime | None
    duration: float | None
    pool: str | None
    hostname: str | None
    queued_at: datetime | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "task instance")
        return cls(
            state=record.optional_text("state"),
            try_number=record.integer("try_number"),
            max_tries=record.integer("max_tries"),
            operator=record.optional_text("operator"),
            start_date=record.time("start_date"),
            end_date=record.time("end_date"),
            duration=record.optional_number("duration"),
            pool=record.optional_text("pool"),
            hostname=record.optional_text("hostname"),
            queued_at=record.time("queued_when"),
            **_ref_fields(record),
        )

    @property
    def ref(self) -> TaskRef:
        return TaskRef(dag_id=self.dag_id, dag_run_id=self.dag_run_id, task_id=self.task_id, map_index=self.map_index)


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of a task's log. `source` is the logger (3.x) or the file (2.11) that wrote it."""

    timestamp: datetime | None
    level: str | None
    text: str
    source: str | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a structured line, or a bare string; an exception's traceback becomes part of the text."""
        if isinstance(data, str):
            return cls(timestamp=None, level=None, text=data)
        record = Record(data, "log line")
        text = "\n".join([record.text("event"), *_exception_lines(record.value("error_detail"))])
        return cls(
            timestamp=record.time("timestamp"),
            level=record.optional_text("level"),
            text=text,
            source=record.optional_text("logger"),
        )


@dataclass(frozen=True, kw_only=True)
class LogChunk:
    """New lines of a log. Ask again with `token` for those that follow; `ended` when the attempt is over."""

    lines: tuple[LogLine, ...]
    token: str | None
    ended: bool

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "log")
        token = record.optional_text("continuation_token")
        lines = tuple(LogLine.parse(line) for line in record.items("content"))
        return cls(lines=lines, token=token, ended=token is None)


def _dag_fields(data: object) -> dict[str, Any]:
    record = Record(data, "DAG")
    return {
        "dag_id": record.text("dag_id"),
        "description": record.optional_text("description"),
        "is_paused": record.flag("is_paused"),
        "is_stale": record.flag("is_stale"),
        "tags": tuple(Record(tag, "tag").text("name") for tag in record.items("tags")),
        "owners": record.texts("owners"),
        "timetable_summary": record.optional_text("timetable_summary"),
        "max_active_runs": record.optional_integer("max_active_runs"),
        "fileloc": record.text("fileloc"),
    }


def _ref_fields(record: Record) -> dict[str, Any]:
    return {
        "dag_id": record.text("dag_id"),
        "dag_run_id": record.text("dag_run_id"),
        "task_id": record.text("task_id"),
        "map_index": record.integer("map_index"),
    }


def _exception_lines(detail: object) -> list[str]:
    if not detail:
        return []
    if not isinstance(detail, list):
        raise AirflowProtocolError("log line: error_detail should be a list")
    return [line for exception in detail for line in _one_exception(Record(exception, "exception"))]


def _one_exception(exception: Record) -> list[str]:
    frames = [Record(frame, "frame") for frame in exception.value("frames") or []]
    places = [f'  File "{f.value("filename")}", line {f.value("lineno")}, in {f.value("name")}' for f in frames]
    return [*places, f"{exception.value('exc_type')}: {exception.value('exc_value')}"]
