"""The pages of events, of commands to Airflow, and of the state of Airflow."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.utils.safestring import SafeString

from workflows.admin.newest import LinkedFilter, NewestFirstPages
from workflows.admin.pages import (
    ChoiceFilter,
    ReadOnlyPages,
    command_label,
    label,
    moment,
    page_link,
    pretty,
    short,
)
from workflows.eventlog import events
from workflows.models import (
    AirflowCommand,
    Event,
    LogHead,
)


class EventTypeFilter(ChoiceFilter):
    title, parameter_name = "type", "type"
    choices_ = [(name, name, Q(type=name)) for name in events.CATALOGUE]


class CommandStatusFilter(ChoiceFilter):
    title, parameter_name = "status", "status"
    choices_ = [
        ("pending", "Pending", Q(finished_at__isnull=True)),
        ("failing", "Pending after a failure", Q(finished_at__isnull=True) & ~Q(last_error="")),
        ("done", "Done", Q(finished_at__isnull=False, last_error="")),
        ("given_up", "Given up or withdrawn", Q(finished_at__isnull=False) & ~Q(last_error="")),
    ]


@admin.register(Event)
class EventAdmin(NewestFirstPages):
    list_display = ["position_", moment("timestamp"), "type_", "workflow_", "run_", "seq", "task_id", "user_", "data_"]
    list_filter = [EventTypeFilter, "timestamp", ("workflow", LinkedFilter)]
    list_select_related = ["workflow", "run", "user"]
    search_fields = ["type", "task_id", "run__id", "run__dag_run_id", "run__dag_id", "workflow__name", "user__username"]
    search_help_text = "Type, task, run id, dag_run_id, dag_id, workflow, user"
    ordering = ["-id"]
    fields = ["position_", moment("timestamp"), "type_", "workflow_", "run_", "seq", "task_id", "user_", "all_data"]

    @admin.display(description="position", ordering="position")
    def position_(self, event: Event) -> str:
        return "not published yet" if event.position is None else str(event.position)

    @admin.display(description="type", ordering="type")
    def type_(self, event: Event) -> SafeString:
        return label(event.type, event.type.rpartition(".")[2])

    @admin.display(description="workflow", ordering="workflow__name")
    def workflow_(self, event: Event) -> str:
        return page_link(event.workflow)

    @admin.display(description="run", ordering="run")
    def run_(self, event: Event) -> str:
        return page_link(event.run, str(event.run_id)[:8])

    @admin.display(description="user", ordering="user__username")
    def user_(self, event: Event) -> str:
        return page_link(event.user)

    @admin.display(description="data")
    def data_(self, event: Event) -> str:
        return short(event.data)

    @admin.display(description="data")
    def all_data(self, event: Event) -> SafeString:
        return pretty(event.data)


@admin.register(LogHead)
class LogHeadAdmin(ReadOnlyPages):
    list_display = ["__str__", "position"]
    search_fields = ["position"]


@admin.register(AirflowCommand)
class AirflowCommandAdmin(ReadOnlyPages):
    names_airflow = "airflow"
    list_display = [
        "id",
        "kind",
        "status",
        "run_",
        "attempts",
        "error",
        moment("created_at"),
        moment("due_at"),
        moment("finished_at"),
    ]
    list_filter = [CommandStatusFilter, "kind", "created_at"]
    list_select_related = ["run"]
    search_fields = ["run__id", "run__dag_id", "run__dag_run_id", "last_error"]
    search_help_text = "Run id, dag_id, dag_run_id, last error"
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = [
        "kind", "status", "run_", "arguments_", "attempts", "last_error", moment("created_at"), moment("due_at"),
        moment("leased_until"), moment("finished_at"),
    ]  # fmt: skip

    @admin.display(ordering="finished_at")
    def status(self, command: AirflowCommand) -> SafeString:
        return command_label(command)

    @admin.display(description="run", ordering="run")
    def run_(self, command: AirflowCommand) -> str:
        return page_link(command.run, str(command.run_id)[:8])

    @admin.display(description="last error")
    def error(self, command: AirflowCommand) -> str:
        return short(command.last_error)

    @admin.display(description="arguments")
    def arguments_(self, command: AirflowCommand) -> SafeString:
        return pretty(command.arguments)
