"""Operators' pages for workflows, their runs and what we owe Airflow. Everything they change goes through the services."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, Count, Model, OuterRef, Q, QuerySet, Subquery, Value
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from svops.errors import ConflictError, InvalidInputError, SVOpsError
from workflows import dag_sync, events, services, upstream
from workflows.models import (
    AirflowCommand,
    AirflowState,
    Dag,
    Event,
    LogHead,
    Run,
    TaskInstance,
    TriggerType,
    Workflow,
)
from workflows.states import TASK_STARTED, TASK_TERMINAL, TERMINAL, RunState

if TYPE_CHECKING:
    from accounts.models import User

    ModelPages = admin.ModelAdmin[Any]
    WorkflowModelForm = forms.ModelForm[Workflow]
else:
    ModelPages, WorkflowModelForm = admin.ModelAdmin, forms.ModelForm

SHOWN_ON_RUN = 200  # rows of a run's tasks and events on its page; the lists have them all
MOST_AT_ONCE = 100  # an action asks Airflow once for each object, while its operator waits


# --- Pieces of a page -------------------------------------------------------------------------------------


def page_link(obj: Model | None, text: str = "") -> str | None:
    """A link to the page of `obj`; None, which a list shows as a dash, where there is none."""
    if obj is None:
        return None
    url = reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
    return format_html('<a href="{}">{}</a>', url, text or str(obj))


def list_link(model: type[Model], text: str, **lookups: Any) -> str:
    """A link to the list of `model`, narrowed by `lookups`."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', url, urlencode(lookups), text)


def label(word: str, colour: str = "") -> SafeString:
    """`word` as a coloured label; the stylesheet knows the states as colours."""
    return format_html('<span class="label label-{}">{}</span>', colour or word, word)


def labels(*words: tuple[str, str]) -> SafeString:
    return format_html_join(" ", '<span class="label label-{}">{}</span>', ((colour, word) for word, colour in words))


def state_label(state: str, *, stale: bool = False, paused: bool = False) -> SafeString:
    marks = [(state or "not scheduled", state or "none")]
    marks += [("paused", "warning")] if paused else []
    marks += [("stale", "warning")] if stale else []
    return labels(*marks)


def pretty(value: Any) -> SafeString:
    return format_html('<pre class="json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def short(value: Any, length: int = 80) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Truncator(text).chars(length)


def lasted(duration: timedelta | None) -> str | None:
    return str(timedelta(seconds=round(duration.total_seconds()))) if duration is not None else None


class ChoiceFilter(admin.SimpleListFilter):
    """Narrows by one of `choices_`, each a value, its title and the condition; `unchosen` holds when none is chosen."""

    choices_: ClassVar[list[tuple[str, str, Q]]]
    unchosen: ClassVar[tuple[str, Q]] = ("All", Q())

    def lookups(self, request: HttpRequest, model_admin: ModelPages) -> list[tuple[str, str]]:
        return [(value, title) for value, title, _ in self.choices_]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {value: condition for value, _, condition in self.choices_}
        return queryset.filter(conditions.get(self.value() or "", self.unchosen[1]))

    def choices(self, changelist: Any) -> Any:
        first, *rest = super().choices(changelist)
        yield first | {"display": self.unchosen[0]}
        yield from rest


class LifeFilter(ChoiceFilter):
    title, parameter_name = "life", "life"
    unchosen = ("Alive", Q(deleted_at__isnull=True))
    choices_ = [("deleted", "Deleted", Q(deleted_at__isnull=False)), ("all", "All", Q())]


class ProgressFilter(ChoiceFilter):
    title, parameter_name = "progress", "progress"
    choices_ = [
        ("open", "Open", ~Q(state__in=sorted(TERMINAL))),
        ("ended", "Ended", Q(state__in=sorted(TERMINAL))),
    ]


class TaskStateFilter(ChoiceFilter):
    title, parameter_name = "state", "state"
    choices_ = [
        *((state, state, Q(state=state)) for state in sorted(TASK_STARTED | TASK_TERMINAL | {"up_for_retry"})),
        ("waiting", "not started yet", ~Q(state__in=sorted(TASK_STARTED | TASK_TERMINAL | {"up_for_retry"}))),
    ]


class EventTypeFilter(ChoiceFilter):
    title, parameter_name = "type", "type"
    choices_ = [(name, name, Q(type=name)) for name in events.CATALOGUE]


class CommandStatusFilter(ChoiceFilter):
    title, parameter_name = "status", "status"
    choices_ = [
        ("owed", "Owed", Q(finished_at__isnull=True)),
        ("failing", "Owed, and has failed", Q(finished_at__isnull=True) & ~Q(last_error="")),
        ("done", "Done", Q(finished_at__isnull=False, last_error="")),
        ("given_up", "Given up or withdrawn", Q(finished_at__isnull=False) & ~Q(last_error="")),
    ]


# --- What the pages share ---------------------------------------------------------------------------------


def actor(request: HttpRequest) -> User:
    return cast("User", request.user)


class Pages(ModelPages):
    """Base of the pages of this app: they warn while Airflow can not be seen, and tell each refusal by name."""

    show_full_result_count = False  # runs and events grow without bound
    list_per_page = 50

    class Media:
        css = {"all": ["workflows/admin.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, _freshness() | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        return super().render_change_form(request, context | _freshness(), *args, **kwargs)

    def each(self, request: HttpRequest, objects: Iterable[Any], act: Callable[[Any], str]) -> None:
        """Do `act` to each object and say for each, by name, what came of it; one that is refused stops no other."""
        chosen = list(objects)
        if len(chosen) > MOST_AT_ONCE:
            self.message_user(request, f"Choose at most {MOST_AT_ONCE} at once; nothing was done.", messages.ERROR)
            return
        for obj in chosen:
            level, text = _outcome(obj, act)
            self.message_user(request, f"{obj}: {text}", level)


def _freshness() -> dict[str, Any]:
    airflow = AirflowState.current()
    return {"airflow": airflow, "airflow_is_stale": airflow.is_stale(timezone.now())}


def _outcome(obj: Any, act: Callable[[Any], str]) -> tuple[int, str]:
    try:
        return messages.SUCCESS, act(obj)
    except ConflictError as exc:
        return messages.WARNING, str(exc)
    except InvalidInputError as exc:
        return messages.ERROR, " ".join([str(exc), *_sentences(exc.errors)])
    except SVOpsError as exc:
        return messages.ERROR, str(exc)


def _sentences(errors: Mapping[str, list[str]]) -> list[str]:
    return [f"{field}: {' '.join(texts)}" for field, texts in errors.items()]


class ReadOnlyPages(Pages):
    """Pages that show: what is on them is moved by the services alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


# --- DAGs -------------------------------------------------------------------------------------------------


@admin.register(Dag)
class DagAdmin(ReadOnlyPages):
    list_display = [
        "dag_id", "status", "description_", "tags_", "timetable_summary", "workflows_", "runs_", "synced_at",
    ]  # fmt: skip
    list_filter = ["is_present", "is_paused", ("import_error", admin.EmptyFieldListFilter), "synced_at"]
    search_fields = ["dag_id", "description", "tags", "owners", "fileloc"]
    fieldsets = [
        (None, {"fields": ["dag_id", "status", "description", "tags_", "owners_", "workflows_", "runs_"]}),
        ("In Airflow", {"fields": ["timetable_summary", "max_active_runs", "fileloc", "synced_at", "import_error_"]}),
        ("Tasks", {"fields": ["task_graph"]}),
        ("Parameters", {"fields": ["schema"]}),
        ("Documentation", {"classes": ["collapse"], "fields": ["doc_md"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        alive = Q(workflows__deleted_at__isnull=True)
        return super().get_queryset(request).annotate(workflow_count=Count("workflows", filter=alive))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, may_have_duplicates = super().get_search_results(request, queryset, search_term)
        if request.GET.get("field_name") == "dag":  # what a workflow is to run on has to be in Airflow
            found = found.filter(is_present=True)
        return found, may_have_duplicates

    @admin.display(ordering="is_present")
    def status(self, dag: Dag) -> SafeString:
        marks = [] if dag.is_present else [("gone from Airflow", "failed")]
        marks += [("import error", "failed")] if dag.import_error else []
        marks += [("paused", "warning")] if dag.is_paused else []
        return labels(*(marks or [("ready", "success")]))

    @admin.display(description="description")
    def description_(self, dag: Dag) -> str:
        return short(dag.description, 60)

    @admin.display(description="tags")
    def tags_(self, dag: Dag) -> str:
        return ", ".join(dag.tags)

    @admin.display(description="owners")
    def owners_(self, dag: Dag) -> str:
        return ", ".join(dag.owners)

    @admin.display(description="workflows", ordering="workflow_count")
    def workflows_(self, dag: Any) -> str:
        return list_link(Workflow, str(dag.workflow_count), dag__id__exact=dag.pk)

    @admin.display(description="runs")
    def runs_(self, dag: Dag) -> str:
        return list_link(Run, "runs", dag_id=dag.dag_id)

    @admin.display(description="import error")
    def import_error_(self, dag: Dag) -> str | None:
        return format_html("<pre>{}</pre>", dag.import_error) if dag.import_error else None

    @admin.display(description="task graph")
    def task_graph(self, dag: Dag) -> SafeString:
        rows = (
            (task["task_id"], task.get("operator") or "", ", ".join(task.get("downstream_task_ids", [])) or "end")
            for task in dag.tasks
        )
        return format_html(
            "<table><thead><tr><th>Task</th><th>Operator</th><th>Followed by</th></tr></thead>{}</table>",
            format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", rows),
        )

    @admin.display(description="JSON schema")
    def schema(self, dag: Dag) -> SafeString:
        return pretty(dag.params_schema)

    # --- sync ---------------------------------------------------------------------------------------------

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return actor(request).has_perm("workflows.change_dag")

    def get_urls(self) -> list[URLPattern]:
        sync = self.admin_site.admin_view(require_POST(self.sync))
        return [path("sync/", sync, name="workflows_dag_sync"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        may_sync = {"may_sync": self.has_sync_permission(request)}
        return super().changelist_view(request, may_sync | (extra_context or {}))

    def sync(self, request: HttpRequest) -> HttpResponse:
        """Mirror Airflow's DAGs now, and say what has changed."""
        if not self.has_sync_permission(request):
            return HttpResponse("You may not sync DAGs.", status=403)
        try:
            with upstream.translated():
                done = dag_sync.sync_dags(now=timezone.now())
        except SVOpsError as exc:
            self.message_user(request, f"The DAGs were not synced. {exc}", messages.ERROR)
        else:
            self.message_user(request, _told(done), messages.WARNING if done.import_errors else messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:workflows_dag_changelist"))


def _told(done: dag_sync.SyncResult) -> str:
    found = f"Airflow has {len(done.seen)} DAG{'' if len(done.seen) == 1 else 's'}"
    named = {"changed": done.changed, "gone": done.vanished, "with import errors": done.import_errors}
    parts = [f"{what}: {', '.join(dag_ids)}" for what, dag_ids in named.items() if dag_ids]
    return "; ".join([found, *(parts or ["nothing has changed"])]) + "."


# --- Workflows --------------------------------------------------------------------------------------------


class WorkflowForm(WorkflowModelForm):
    """Saves through the services.

    The service decides and saves in one step, so it is called by `clean`, where what it refuses can still be
    shown at the fields; the admin has put the whole request into one transaction.
    """

    actor: ClassVar[User]

    class Meta:
        model = Workflow
        fields = ["name", "description", "dag", "owner", "is_active", "visibility", "default_parameters"]
        widgets = {"default_parameters": forms.Textarea(attrs={"rows": 8, "class": "vLargeTextField json"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "dag" in self.fields:
            kept = Q(pk=self.instance.dag_id)
            cast("forms.ModelChoiceField[Dag]", self.fields["dag"]).queryset = Dag.objects.filter(
                kept | Q(is_present=True)
            )

    def clean_default_parameters(self) -> dict[str, Any]:
        value = self.cleaned_data["default_parameters"]
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise forms.ValidationError('Expected a JSON object, such as {"processing_time": 30}.')
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError as exc:
            raise forms.ValidationError("NaN and Infinity are not JSON.") from exc
        if "\\u0000" in text:
            raise forms.ValidationError("Null characters are not allowed.")
        return value

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.instance = self._saved(cleaned)
            except InvalidInputError as exc:
                self._show(exc)
            except SVOpsError as exc:
                self.add_error(None, str(exc))
        return cleaned

    def _saved(self, cleaned: dict[str, Any]) -> Workflow:
        if self.instance.pk is None:
            return services.create_workflow(**cleaned)
        return services.update_workflow(workflow=self.instance, actor=self.actor, **cleaned)

    def _show(self, refusal: InvalidInputError) -> None:
        for key, texts in refusal.errors.items():
            field, _, part = key.partition(".")
            for text in texts:
                self.add_error(field if field in self.fields else None, f"{part}: {text}" if part else text)


@admin.register(Workflow)
class WorkflowAdmin(Pages):
    form = WorkflowForm
    list_display = [
        "name", "dag_", "owner_", "is_active", "visibility", "open_runs", "last_run", "events_", "updated_at",
    ]  # fmt: skip
    list_filter = [LifeFilter, "is_active", "visibility", "dag__is_paused", "dag__is_present", "created_at"]
    list_select_related = ["dag", "owner"]
    search_fields = ["name", "description", "dag__dag_id", "owner__username", "owner__email"]
    date_hierarchy = "created_at"
    autocomplete_fields = ["dag", "owner"]
    readonly_fields = ["runs_", "events_", "created_at", "updated_at", "deleted_at"]
    fieldsets = [
        (None, {"fields": ["name", "description", "dag", "owner"]}),
        ("Who and when", {"fields": ["is_active", "visibility"]}),
        ("Parameters", {"fields": ["default_parameters"]}),
        ("History", {"fields": ["runs_", "events_", "created_at", "updated_at", "deleted_at"]}),
    ]
    actions = ["trigger", "delete_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        runs = Run.objects.filter(workflow=OuterRef("pk"))
        newest = runs.order_by("-created_at", "-id")
        counted = runs.open().order_by().values("workflow").annotate(n=Count("pk")).values("n")
        return (
            super()
            .get_queryset(request)
            .annotate(
                open_count=Subquery(counted),
                last_run_id=Subquery(newest.values("pk")[:1]),
                last_state=Subquery(newest.values("state")[:1]),
            )
        )

    def get_fieldsets(self, request: HttpRequest, obj: Workflow | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:-1]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.actor = actor(request)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": actor(request).pk} | super().get_changeform_initial_data(request)

    def has_change_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.deleted_at)

    def has_delete_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.deleted_at)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing is left to do: the form has saved through the service."""

    # --- columns ------------------------------------------------------------------------------------------

    @admin.display(description="DAG", ordering="dag__dag_id")
    def dag_(self, workflow: Workflow) -> str | None:
        return page_link(workflow.dag)

    @admin.display(description="owner", ordering="owner__username")
    def owner_(self, workflow: Workflow) -> str | None:
        return page_link(workflow.owner)

    @admin.display(description="open runs", ordering="open_count")
    def open_runs(self, workflow: Any) -> str:
        return list_link(Run, str(workflow.open_count or 0), workflow__id__exact=workflow.pk, progress="open")

    @admin.display(description="last run", ordering="last_state")
    def last_run(self, workflow: Any) -> str | None:
        if workflow.last_run_id is None:
            return None
        url = reverse("admin:workflows_run_change", args=[workflow.last_run_id])
        return format_html('<a href="{}">{}</a>', url, label(workflow.last_state))

    @admin.display(description="runs")
    def runs_(self, workflow: Workflow) -> str:
        return list_link(Run, "all runs", workflow__id__exact=workflow.pk)

    @admin.display(description="events")
    def events_(self, workflow: Workflow) -> str:
        return list_link(Event, "events", workflow__id__exact=workflow.pk)

    # --- trigger and delete -------------------------------------------------------------------------------

    def has_trigger_permission(self, request: HttpRequest) -> bool:
        return actor(request).has_perm("workflows.add_run")

    @admin.action(description="Trigger with the default parameters", permissions=["trigger"])
    def trigger(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        def act(workflow: Workflow) -> str:
            run = services.trigger_run(workflow=workflow, user=actor(request), trigger_type=TriggerType.ADMIN, given={})
            return f"triggered, {run} is {run.state}"

        self.each(request, queryset, act)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What a confirmation lists: the workflows alone, since their runs and events are kept."""
        return [str(workflow) for workflow in objs], {"workflows": len(objs)}, set(), []

    @admin.action(description="Delete selected workflows", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> HttpResponse | None:
        if not request.POST.get("post"):
            return admin.actions.delete_selected(self, request, queryset)

        def act(workflow: Workflow) -> str:
            services.delete_workflow(workflow=workflow, actor=actor(request))
            self.log_deletions(request, Workflow.objects.filter(pk=workflow.pk))
            return "deleted; its runs are kept"

        self.each(request, queryset.filter(deleted_at__isnull=True), act)
        return None

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ConflictError as exc:
            self.message_user(request, f"Not deleted. {exc}", messages.WARNING)
            return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.delete_workflow(workflow=obj, actor=actor(request))


# --- Runs -------------------------------------------------------------------------------------------------


def stop(request: HttpRequest, run: Run) -> Run:
    return services.stop_run(run=run, actor=actor(request))


def retry_failed(request: HttpRequest, run: Run) -> Run:
    return services.retry_run(run=run, actor=actor(request), mode="failed")


def retry_all(request: HttpRequest, run: Run) -> Run:
    return services.retry_run(run=run, actor=actor(request), mode="all")


RUN_ACTIONS = {"stop": stop, "retry_failed": retry_failed, "retry_all": retry_all}


def _fitting(run: Run) -> list[tuple[str, str]]:
    """The actions, with their titles, that the state of a run allows."""
    if not run.is_terminal:
        return [] if run.state == RunState.STOPPING else [("stop", "Stop")]
    if run.queued_at is None:
        return []
    failed = [("retry_failed", "Retry failed tasks")] if run.state != RunState.SUCCESS else []
    return [*failed, ("retry_all", "Retry all")]


class NotToldError(SVOpsError):
    """The change was accepted here and is still owed to Airflow."""


@admin.register(Run)
class RunAdmin(ReadOnlyPages):
    list_display = [
        "short_id", "state_", "workflow_", "dag_id", "by", "references", "attempt", "created_at", "lasted",
        "events_", "reason",
    ]  # fmt: skip
    list_filter = [ProgressFilter, "state", "paused", "trigger_type", "created_at", "workflow"]
    list_select_related = ["workflow", "user"]
    search_fields = [
        "id", "dag_run_id", "dag_id", "workflow__name", "user__username", "task_id", "dataset_id", "note",
    ]  # fmt: skip
    search_help_text = "Run id, dag_run_id, dag_id, workflow, user, the caller's task_id or dataset_id, note"
    date_hierarchy = "created_at"
    actions = ["stop", "retry_failed", "retry_all"]
    fieldsets = [
        (None, {"fields": ["id", "state_", "state_reason", "workflow_", "dag_", "dag_run_id", "attempt"]}),
        ("Asked for", {"fields": ["by", "trigger_type", "task_id", "dataset_id", "note", "parameters_"]}),
        (
            "Times",
            {
                "fields": [
                    "created_at", "queued_at", "started_at", "ended_at", "lasted", "stop_requested_at", "observed_at",
                ]
            },
        ),
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(stale=_staleness())

    def has_control_permission(self, request: HttpRequest) -> bool:
        return actor(request).has_perm("workflows.change_run")

    # --- columns ------------------------------------------------------------------------------------------

    @admin.display(description="run", ordering="id")
    def short_id(self, run: Run) -> str:
        return format_html('<span title="{}">{}</span>', run.pk, str(run.pk)[:8])

    @admin.display(description="state", ordering="state")
    def state_(self, run: Any) -> SafeString:
        return state_label(run.state, stale=run.stale and not run.is_terminal, paused=run.paused)

    @admin.display(description="workflow", ordering="workflow__name")
    def workflow_(self, run: Run) -> str | None:
        return page_link(run.workflow)

    @admin.display(description="DAG")
    def dag_(self, run: Run) -> str:
        return page_link(Dag.objects.filter(dag_id=run.dag_id).first()) or run.dag_id

    @admin.display(description="by", ordering="user__username")
    def by(self, run: Run) -> str | None:
        return page_link(run.user)

    @admin.display(description="caller's references")
    def references(self, run: Run) -> str | None:
        given = {"task": run.task_id, "dataset": run.dataset_id}
        return ", ".join(f"{what} {short(value, 30)}" for what, value in given.items() if value is not None) or None

    @admin.display(description="lasted")
    def lasted(self, run: Run) -> str | None:
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
        """What the buttons on a run's page do; shows the page again."""
        if action not in RUN_ACTIONS or not self.has_control_permission(request):
            return HttpResponse("There is no such action for you.", status=403)
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
            owed = after.commands.filter(finished_at__isnull=True).last()
            if owed:
                why = owed.last_error or AirflowState.current().last_error or "it does not answer"
                raise NotToldError(
                    f"it is {after.state} here, but Airflow is yet to be told: {why}. It is tried again."
                )
            return f"it is {after.state} now."

        self.each(request, runs, act)


def _staleness() -> Value:
    """Read once, for all rows of a page."""
    return Value(AirflowState.current().is_stale(timezone.now()), output_field=BooleanField())


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
        [page_link(command, command.kind), command_label(command), command.attempts, command.due_at, command.last_error]
        for command in run.commands.order_by("-id")[:SHOWN_ON_RUN]
    )
    head = ["Command", "Status", "Attempts", "Due", "Last error"]
    return _table("Commands to Airflow", head, rows, list_link(AirflowCommand, "All commands", run__id__exact=run.pk))


@admin.register(TaskInstance)
class TaskInstanceAdmin(ReadOnlyPages):
    list_display = ["task", "state_", "run_", "workflow_", "tries", "operator", "started_at", "ended_at", "lasted"]
    list_filter = [TaskStateFilter, "started_at", "run__workflow"]
    list_select_related = ["run__workflow"]
    search_fields = ["task_id", "run__id", "run__dag_id", "run__dag_run_id", "run__workflow__name"]
    search_help_text = "Task, run id, dag_id, dag_run_id, workflow"
    date_hierarchy = "started_at"
    ordering = ["-id"]
    fields = ["task", "state_", "run_", "workflow_", "tries", "operator", "started_at", "ended_at", "lasted"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(stale=_staleness())

    @admin.display(ordering="task_id")
    def task(self, task: TaskInstance) -> str:
        return str(task)

    @admin.display(description="state", ordering="state")
    def state_(self, task: Any) -> SafeString:
        return state_label(task.state, stale=task.stale and not task.run.is_terminal)

    @admin.display(description="run", ordering="run")
    def run_(self, task: TaskInstance) -> str | None:
        return page_link(task.run, str(task.run_id)[:8])

    @admin.display(description="workflow", ordering="run__workflow__name")
    def workflow_(self, task: TaskInstance) -> str | None:
        return page_link(task.run.workflow)

    @admin.display(description="try", ordering="try_number")
    def tries(self, task: TaskInstance) -> str:
        return f"{task.try_number} of {task.max_tries + 1}"

    @admin.display(description="lasted")
    def lasted(self, task: TaskInstance) -> str | None:
        return lasted(task.duration())


# --- The log and Airflow ----------------------------------------------------------------------------------


@admin.register(Event)
class EventAdmin(ReadOnlyPages):
    list_display = ["position_", "timestamp", "type_", "workflow_", "run_", "seq", "task_id", "user_", "data_"]
    list_filter = [EventTypeFilter, "timestamp", "workflow"]
    list_select_related = ["workflow", "run", "user"]
    search_fields = ["type", "task_id", "run__id", "run__dag_run_id", "run__dag_id", "workflow__name", "user__username"]
    search_help_text = "Type, task, run id, dag_run_id, dag_id, workflow, user"
    date_hierarchy = "timestamp"
    ordering = ["-id"]
    fields = ["position_", "timestamp", "type_", "workflow_", "run_", "seq", "task_id", "user_", "all_data"]

    @admin.display(description="position", ordering="position")
    def position_(self, event: Event) -> str:
        return "not published yet" if event.position is None else str(event.position)

    @admin.display(description="type", ordering="type")
    def type_(self, event: Event) -> SafeString:
        return label(event.type, event.type.rpartition(".")[2])

    @admin.display(description="workflow", ordering="workflow__name")
    def workflow_(self, event: Event) -> str | None:
        return page_link(event.workflow)

    @admin.display(description="run", ordering="run")
    def run_(self, event: Event) -> str | None:
        return page_link(event.run, str(event.run_id)[:8])

    @admin.display(description="user", ordering="user__username")
    def user_(self, event: Event) -> str | None:
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


def command_label(command: AirflowCommand) -> SafeString:
    if command.finished_at is None:
        return label("owed", "warning" if command.last_error else "pending")
    return label("given up", "failed") if command.last_error else label("done", "success")


@admin.register(AirflowCommand)
class AirflowCommandAdmin(ReadOnlyPages):
    list_display = ["id", "kind", "status", "run_", "attempts", "error", "created_at", "due_at", "finished_at"]
    list_filter = [CommandStatusFilter, "kind", "created_at"]
    list_select_related = ["run"]
    search_fields = ["run__id", "run__dag_id", "run__dag_run_id", "last_error"]
    search_help_text = "Run id, dag_id, dag_run_id, last error"
    date_hierarchy = "created_at"
    ordering = ["-id"]
    fields = [
        "kind", "status", "run_", "arguments_", "attempts", "last_error", "created_at", "due_at", "leased_until",
        "finished_at",
    ]  # fmt: skip

    @admin.display(ordering="finished_at")
    def status(self, command: AirflowCommand) -> SafeString:
        return command_label(command)

    @admin.display(description="run", ordering="run")
    def run_(self, command: AirflowCommand) -> str | None:
        return page_link(command.run)

    @admin.display(description="last error")
    def error(self, command: AirflowCommand) -> str:
        return short(command.last_error)

    @admin.display(description="arguments")
    def arguments_(self, command: AirflowCommand) -> SafeString:
        return pretty(command.arguments)


@admin.register(AirflowState)
class AirflowStateAdmin(ReadOnlyPages):
    list_display = ["status", "version", "ticked_at", "looked_at", "swept_at", "last_error"]
    list_filter = ["reachable"]
    search_fields = ["version", "last_error"]
    fields = ["status", "version", "last_error", "ticked_at", "looked_at", "swept_at", "leased_until"]

    @admin.display(description="state", ordering="reachable")
    def status(self, state: AirflowState) -> SafeString:
        stale = state.is_stale(timezone.now())
        word = label("reachable", "success") if state.reachable else label("unreachable", "failed")
        return format_html("{} {}", word, label("stale", "warning")) if stale else word
