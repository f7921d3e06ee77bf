"""Airflow's answers as types. `parse` reads the JSON of `/api/v2`, and the v1 adapter translates into it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from .errors import AirflowProtocolError
from .reading import Record


@dataclass(frozen=True, kw_only=True)
class ComponentHealth:
    """One component of Airflow. `status` is None if this Airflow does not have it."""

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
    bundle_name: str | None
    relative_fileloc: str | None
    parsed_at: datetime | None

    @classmethod
    def parse(cls, data: object) -> Self:
        return cls(**_dag_fields(data))


@dataclass(frozen=True, kw_only=True)
class UnreadableDag:
    """A DAG that Airflow lists in a form that we cannot read, and why."""

    dag_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DagParam:
    """A parameter of a DAG. A value of None is a default of None or no default: Airflow does not say which."""

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
    run_timeout: timedelta | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "DAG")
        return cls(
            params={name: DagParam.parse(param) for name, param in record.object("params").items()},
            doc_md=record.optional_text("doc_md"),
            run_timeout=_duration(record.value("dag_run_timeout")),
            **_dag_fields(data),
        )


@dataclass(frozen=True, kw_only=True)
class DagTask:
    """A task of a DAG. `role` is "setup", "teardown" or None. Tasks in a `mapped_group` are mapped together."""

    task_id: str
    downstream_task_ids: tuple[str, ...]
    operator: str | None
    trigger_rule: str | None
    retries: int
    is_mapped: bool
    pool: str | None
    role: str | None = None
    mapped_group: str | None = None

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
    """A DAG file that Airflow cannot import. 3.x names it relative to its bundle, 2.11 from the root."""

    filename: str
    bundle_name: str | None
    stack_trace: str
    timestamp: datetime | None

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "import error")
        return cls(
            filename=record.text("filename"),
            bundle_name=record.optional_text("bundle_name"),
            stack_trace=record.text("stack_trace"),
            timestamp=record.time("timestamp"),
        )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Slots that task instances share. `slots` is -1 if there is no limit."""

    name: str
    slots: int
    open_slots: int

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "pool")
        return cls(name=record.text("name"), slots=record.integer("slots"), open_slots=record.integer("open_slots"))


# The time whose data a run handles: from a start up to an end.
DataInterval = tuple[datetime, datetime]


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """What a trigger gives a run."""

    dag_run_id: str
    conf: Mapping[str, Any]
    note: str | None
    logical_date: datetime | None
    data_interval: DataInterval | None

    def interval_fields(self) -> dict[str, str]:
        """Return the fields of the interval, the same in both APIs; none if it is not given."""
        if self.data_interval is None:
            return {}
        start, end = self.data_interval
        return {"data_interval_start": start.isoformat(), "data_interval_end": end.isoformat()}


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """A run in Airflow. `conf` is what the trigger sent, without the DAG's defaults.

    In Airflow 3, a run may have no `logical_date`. Then it has no `data_interval` either.
    """

    dag_id: str
    dag_run_id: str
    state: str
    run_type: str
    conf: Mapping[str, Any]
    note: str | None
    logical_date: datetime | None
    data_interval: DataInterval | None
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
            conf=_conf(record),
            note=record.optional_text("note"),
            logical_date=record.time("logical_date"),
            data_interval=_data_interval(record),
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

    @classmethod
    def of_event(cls, record: Record) -> Self:
        """Return the task instance that an entry of the audit log names. Without an index, it is not mapped."""
        index = record.optional_integer("map_index")
        ids = {"dag_id": record.text("dag_id"), "dag_run_id": record.text("run_id"), "task_id": record.text("task_id")}
        return cls(**ids, map_index=-1 if index is None else index)


@dataclass(frozen=True, kw_only=True)
class TaskInstance(TaskRef):
    """A task instance. Its state is None until the scheduler has handled it.

    `id` is new for each retry, clear and pass of a loop. 2.11 has none. `asks` is known only of a push: whether the
    task can ask a person.
    """

    id: str | None = None
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
    asks: bool = False

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "task instance")
        return cls(
            id=record.optional_text("id"),
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
    def never_ran(self) -> bool:
        """Whether Airflow ended it before it had a process: then both of its times are the same."""
        return self.start_date is not None and self.start_date == self.end_date

    @property
    def ref(self) -> TaskRef:
        return TaskRef(dag_id=self.dag_id, dag_run_id=self.dag_run_id, task_id=self.task_id, map_index=self.map_index)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a task asks a person (human in the loop, since 3.1), and the answer, once there is one.

    Anybody may answer who may edit the DAG's runs in Airflow, or only the `respondents` if there are some. After a
    timeout, Airflow answers with the defaults, in nobody's name. The API does not say when that will be.
    """

    task: TaskInstance
    subject: str
    body: str
    options: tuple[str, ...]
    defaults: tuple[str, ...]
    multiple: bool
    params: Mapping[str, Any]
    respondents: tuple[str, ...]
    asked_at: datetime | None
    answered_at: datetime | None
    answered_by: str
    chosen: tuple[str, ...]
    params_input: Mapping[str, Any]

    @classmethod
    def parse(cls, data: object) -> Self:
        record = Record(data, "question")
        return cls(
            task=TaskInstance.parse(record.value("task_instance")),
            subject=record.optional_text("subject") or "",
            body=record.optional_text("body") or "",
            options=record.texts("options"),
            defaults=record.texts("defaults"),
            multiple=bool(record.value("multiple")),
            params=record.object("params"),
            respondents=tuple(_name_of(user) for user in record.value("assigned_users") or []),
            asked_at=record.time("created_at"),
            answered_at=record.time("responded_at"),
            answered_by=_name_of(user) if (user := record.value("responded_by_user")) else "",
            chosen=record.texts("chosen_options"),
            params_input=record.object("params_input"),
        )


def _name_of(user: object) -> str:
    return Record(user, "user").text("name")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Somebody has given a run this state in Airflow, or a task instance of it if there is a `task_id`."""

    state: str
    by: str
    at: datetime
    task_id: str | None

    @classmethod
    def parse(cls, data: object) -> Self | None:
        """Read an entry of Airflow's audit log; None if it says no state."""
        record = Record(data, "entry of the audit log")
        at = record.time("when")
        try:
            extra = json.loads(record.optional_text("extra") or "{}")
        except ValueError:
            return None
        state = (extra.get("state") or extra.get("new_state")) if isinstance(extra, dict) else None
        if not isinstance(state, str) or at is None:
            return None
        return cls(state=state, by=record.optional_text("owner") or "", at=at, task_id=record.optional_text("task_id"))


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of a task's log. `source` is the logger (3.x) or the file (2.11) that wrote it.

    The text of a line that is too long `is_cut`, and says so at its end.
    """

    timestamp: datetime | None
    level: str | None
    text: str
    source: str | None = field(default=None, compare=False)
    is_cut: bool = False

    @classmethod
    def parse(cls, data: object) -> Self:
        """Read a structured line, or a bare string. An exception's traceback becomes part of the text."""
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
        "bundle_name": record.optional_text("bundle_name"),
        "relative_fileloc": record.optional_text("relative_fileloc"),
        "parsed_at": record.time("last_parsed_time"),
    }


# As Airflow writes a duration: `PT40S`, `P1DT2H`.
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def _duration(text: object) -> timedelta | None:
    """Read a duration; None if there is none, or one that is written in another way."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return None


def _conf(record: Record) -> Mapping[str, Any]:
    """Return the conf of a run. Airflow 2.11 also takes other JSON, which no DAG can use as parameters: no conf."""
    return record.object("conf") if isinstance(record.value("conf"), Mapping) else {}


def _data_interval(record: Record) -> DataInterval | None:
    start, end = record.time("data_interval_start"), record.time("data_interval_end")
    return (start, end) if start and end else None


def _ref_fields(record: Record) -> dict[str, Any]:
    return {
        "dag_id": record.text("dag_id"),
        "dag_run_id": record.text("dag_run_id"),
        "task_id": record.text("task_id"),
        "map_index": record.integer("map_index"),
    }


def _exception_lines(detail: object) -> list[str]:
    """Return the lines of a traceback as Python prints it: the first cause at the top, the raised error at the end.

    Airflow lists the raised error first, then its cause, then the cause of that.
    """
    if not detail:
        return []
    if not isinstance(detail, list):
        raise AirflowProtocolError("log line: error_detail should be a list")
    raised, *causes = [Record(exception, "exception") for exception in detail]
    lines: list[str] = []
    for cause in reversed(causes):
        lines += [*_one_exception(cause), "", _CAUSE if cause.value("is_cause") else _CONTEXT, ""]
    return [*lines, *_one_exception(raised)]


# The sentences of Python's own tracebacks.
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"


def _one_exception(exception: Record) -> list[str]:
    frames = [Record(frame, "frame") for frame in exception.value("frames") or []]
    places = [f'  File "{f.value("filename")}", line {f.value("lineno")}, in {f.value("name")}' for f in frames]
    return [*places, f"{exception.value('exc_type')}: {exception.value('exc_value')}"]
