"""The pages of runs and tasks. Actions call the services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from django.contrib import admin
from django.db.models import BooleanField, Case, Expression, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from rest.errors import SVOpsError
from workflows import services
from workflows.admin.newest import LinkedFilter, NewestFirstPages
from workflows.admin.pages import (
    EMPTY,
    ChoiceFilter,
    actor,
    command_label,
    lasted,
    list_link,
    moment,
    page_link,
    pretty,
    short,
    state_label,
)
from workflows.models import (
    Airflow,
    AirflowCommand,
    Dag,
    Event,
    Run,
    RunQuerySet,
    TaskInstance,
)
from workflows.states import OPEN, TASK_KNOWN, TASK_NOT_BEGUN, TASK_STARTED, TASK_TRY_ENDED, TERMINAL, RunState

TIMES = ["created_at", "queued_at", "started_at", "ended_at", "stop_requested_at", "observed_at"]
SHOWN_ON_RUN = 200  # most tasks and events on the page of a run; the lists have all


class ProgressFilter(ChoiceFilter):
    title, parameter_name = "progress", "progress"
    choices_ = [
        ("open", "Open", Q(state__in=sorted(OPEN))),
        ("ended", "Ended", Q(state__in=sorted(TERMINAL))),
    ]


class TaskStateFilter(ChoiceFilter):
    title, parameter_name = "state", "state"
    choices_ = [
        *((state, state, Q(state=state)) for state in sorted(TASK_STARTED | TASK_TRY_ENDED)),
        ("waiting", "not started yet", Q(state__in=sorted(TASK_NOT_BEGUN))),
        ("other", "another state of Airflow", ~Q(state__in=sorted(TASK_KNOWN))),
    ]


def stop(request: HttpRequest, run: Run) -> Run:
    return services.stop_run(run=run, actor=actor(request))


def retry_failed(request: HttpRequest, run: Run) -> Run:
    return services.retry_run(run=run, actor=actor(request), mode="failed")


def retry_all(request: HttpRequest, run: Run) -> Run:
    return services.retry_run(run=run, actor=actor(request), mode="all")


RUN_ACTIONS = {"stop": stop, "retry_failed": retry_failed, "retry_all": retry_all}


def _fitting(run: Run) -> list[tuple[str, str]]:
    """Return the actions that the state of the run allows, with their titles."""
    if not run.is_terminal:
        return [] if run.state == RunState.STOPPING else [("stop", "Stop")]
    if run.queued_at is None:
        return []
    failed = [("retry_failed", "Retry failed tasks")] if run.state != RunState.SUCCESS else []
    return [*failed, ("retry_all", "Retry all")]


class NotDispatchedError(SVOpsError):
    """The change is recorded here, but its command has not reached Airflow yet."""


@admin.register(Run)
class RunAdmin(NewestFirstPages):
    names_airflow = "airflow"
    list_display = [
        "short_id", "state_", "workflow_", moment("created_at"), "lasted", "by", "references", "attempt", "events_",
        "reason",
    ]  # fmt: skip
    list_filter = [ProgressFilter, "state", "paused", "trigger_type", "created_at", ("workflow", LinkedFilter)]
    list_select_related = ["workflow", "user"]
    search_fields = [
        "id", "dag_run_id", "dag_id", "workflow__name", "user__username", "task_id", "dataset_id", "note",
    ]  # fmt: skip
    search_help_text = "Run id, dag_run_id, dag_id, workflow, user, the caller's task_id or dataset_id, note"
    actions = ["stop", "retry_failed", "retry_all"]
    fieldsets = [
        (None, {"fields": ["id", "state_", "state_reason", "workflow_", "dag_", "dag_run_id", "attempt", "lasted"]}),
        ("Request", {"fields": ["by", "trigger_type", "task_id", "dataset_id", "note", "dates", "parameters_"]}),
        ("Times", {"fields": [moment(name) for name in TIMES]}),
    ]

    def annotations(self) -> dict[str, Any]:
        return {"stale": _staleness()}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        runs = cast("RunQuerySet", super().get_queryset(request))
        return runs.with_work().defer("parameters")

    def has_control_permission(self, request: HttpRequest) -> bool:
        return actor(request).has_perm("workflows.change_run")

    @admin.display(description="logical date")
    def dates(self, run: Run) -> str:
        if run.logical_date is None:
            return EMPTY
        of_data = f", data from {run.data_interval.start} to {run.data_interval.end}" if run.data_interval else ""
        return f"{run.logical_date}{of_data}"

    # --- columns ------------------------------------------------------------------------------------------

    @admin.display(description="run", ordering="id")
    def short_id(self, run: Run) -> str:
        return format_html('<span title="{}">{}</span>', run.pk, str(run.pk)[:8])

    @admin.display(description="state", ordering="state")
    def state_(self, run: Any) -> SafeString:
        return state_label(
            run.state, stale=run.stale and not run.is_terminal, paused=run.is_paused, pausing=run.is_pausing
        )

    @admin.display(description="workflow", ordering="workflow__name")
    def workflow_(self, run: Run) -> str:
        return page_link(run.workflow)

    @admin.display(description="DAG")
    def dag_(self, run: Run) -> str:
        dag = Dag.objects.of_run(run).first()
        return page_link(dag) if dag else run.dag_id

    @admin.display(description="by", ordering="user__username")
    def by(self, run: Run) -> str:
        return page_link(run.user)

    @admin.display(description="caller's references")
    def references(self, run: Run) -> str:
        given = {"task": run.task_id, "dataset": run.dataset_id}
        return ", ".join(f"{what} {short(value, 30)}" for what, value in given.items() if value is not None) or EMPTY

    @admin.display(description="lasted")
    def lasted(self, run: Run) -> str:
        return lasted(run.duration())

    @admin.display(description="events", ordering="event_count")
    def events_(self, run: Run) -> str:
        return list_link(Event, str(run.event_count), run__id__exact=run.pk)

    @admin.display(description="reason")
    def reason(self, run: Run) -> str:
        return short(run.state_reason, 60)

    @admin.display(description="parameters")
    def parameters_(self, run: Run) -> SafeString:
        return pretty(run.parameters)

    # --- the page of a run --------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        run: Run = context["original"]
        fitting = _fitting(run) if self.has_control_permission(request) else []
        shown = {
            "run_actions": [
                (reverse("admin:workflows_run_act", args=[run.pk, name]), title) for name, title in fitting
            ],
            "run_tables": [_tasks_of(run), _events_of(run), _commands_of(run)],
        }
        return super().render_change_form(request, context | shown, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        act = self.admin_site.admin_view(require_POST(self.act_on_one))
        return [path("<uuid:run_id>/act/<slug:action>/", act, name="workflows_run_act"), *super().get_urls()]

    def act_on_one(self, request: HttpRequest, run_id: Any, action: str) -> HttpResponse:
        """Do the action of a button on the page of a run, then show the page again."""
        if action not in RUN_ACTIONS or not self.has_control_permission(request):
            return HttpResponse("There is no such action, or you are not allowed to do it.", status=403)
        self._act(request, Run.objects.filter(pk=run_id), action)
        return HttpResponseRedirect(reverse("admin:workflows_run_change", args=[run_id]))

    # --- actions ------------------------------------------------------------------------------------------

    @admin.action(description="Stop", permissions=["control"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._act(request, queryset, "stop")

    @admin.action(description="Retry failed tasks", permissions=["control"])
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._act(request, queryset, "retry_failed")

    @admin.action(description="Retry all", permissions=["control"])
    def retry_all(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._act(request, queryset, "retry_all")

    def _act(self, request: HttpRequest, runs: QuerySet[Run], action: str) -> None:
        def act(run: Run) -> str:
            after = RUN_ACTIONS[action](request, run)
            pending = after.commands.filter(finished_at__isnull=True).last()
            if pending:
                why = pending.last_error or Airflow.named(after.airflow_name).last_error or "it does not answer"
                raise NotDispatchedError(
                    f"it is {after.state} here, but Airflow does not know yet: {why}. SVOps retries."
                )
            return f"it is {after.state} now."

        self.each(request, runs, act)


def _staleness(of_run: str = "") -> Expression:
    """Return whether what is known of the run is stale. What is known of its Airflow is read once for all rows."""
    now, known = timezone.now(), Airflow.by_name()
    hidden = [
        When(**{f"{of_run}airflow__name": name, f"{of_run}dag_id__in": airflow.hidden_dags}, then=Value(True))
        for name, airflow in known.items()
        if airflow.hidden_dags
    ]
    stale = [name for name, airflow in known.items() if airflow.is_stale(now)]
    if not hidden and len(stale) in {0, len(known)}:
        return Value(bool(stale), output_field=BooleanField())
    of_stale = When(**{f"{of_run}airflow__name__in": stale}, then=Value(True))
    return Case(*hidden, of_stale, default=Value(False), output_field=BooleanField())


def _table(title: str, head: list[str], rows: Iterable[list[Any]], everything: str) -> dict[str, Any]:
    return {"title": title, "head": head, "rows": list(rows), "everything": everything}


def _tasks_of(run: Run) -> dict[str, Any]:
    rows = (
        [
            page_link(task),
            state_label(task.state),
            f"{task.try_number} of {task.max_tries + 1}",
            task.operator,
            task.started_at,
            task.ended_at,
            lasted(task.duration()),
        ]
        for task in run.tasks.order_by("id")[:SHOWN_ON_RUN]
    )
    head = ["Task", "State", "Try", "Operator", "Started", "Ended", "Lasted"]
    return _table("Tasks", head, rows, list_link(TaskInstance, "All tasks", run__id__exact=run.pk))


def _events_of(run: Run) -> dict[str, Any]:
    newest = list(run.events.order_by("-seq")[:SHOWN_ON_RUN])
    rows = ([event.seq, event.timestamp, page_link(event, event.type), event.task_id, short(event.data, 160)]
            for event in newest)  # fmt: skip
    head = ["Seq", "Time", "Type", "Task", "Data"]
    return _table("Events, newest first", head, rows, list_link(Event, "All events", run__id__exact=run.pk))


def _commands_of(run: Run) -> dict[str, Any]:
    rows = (
        [
            page_link(command, command.kind),
            command_label(command),
            str(command.attempts),
            command.due_at,
            command.last_error,
        ]
        for command in run.commands.order_by("-id")[:SHOWN_ON_RUN]
    )
    head = ["Command", "Status", "Attempts", "Due", "Last error"]
    return _table("Commands to Airflow", head, rows, list_link(AirflowCommand, "All commands", run__id__exact=run.pk))


@admin.register(TaskInstance)
class TaskInstanceAdmin(NewestFirstPages):
    list_display = [
        "task",
        "state_",
        "run_",
        "workflow_",
        "tries",
        "operator",
        moment("started_at"),
        moment("ended_at"),
        "lasted",
    ]
    list_filter = [TaskStateFilter, "started_at", ("run__workflow", LinkedFilter)]
    list_select_related = ["run__workflow"]
    search_fields = ["task_id", "run__id", "run__dag_id", "run__dag_run_id", "run__workflow__name"]
    search_help_text = "Task, run id, dag_id, dag_run_id, workflow"
    ordering = ["-id"]
    fields = [
        "task",
        "state_",
        "run_",
        "workflow_",
        "tries",
        "operator",
        moment("started_at"),
        moment("ended_at"),
        "lasted",
    ]

    def annotations(self) -> dict[str, Any]:
        return {"stale": _staleness("run__")}

    @admin.display(ordering="task_id")
    def task(self, task: TaskInstance) -> str:
        return str(task)

    @admin.display(description="state", ordering="state")
    def state_(self, task: Any) -> SafeString:
        return state_label(task.state, stale=task.stale and not task.run.is_terminal)

    @admin.display(description="run", ordering="run")
    def run_(self, task: TaskInstance) -> str:
        return page_link(task.run, str(task.run_id)[:8])

    @admin.display(description="workflow", ordering="run__workflow__name")
    def workflow_(self, task: TaskInstance) -> str:
        return page_link(task.run.workflow)

    @admin.display(description="try", ordering="try_number")
    def tries(self, task: TaskInstance) -> str:
        return f"{task.try_number} of {task.max_tries + 1}"

    @admin.display(description="lasted")
    def lasted(self, task: TaskInstance) -> str:
        return lasted(task.duration())
