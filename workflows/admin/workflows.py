"""The pages of workflows. The services create, change and delete them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected as ask_first
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from rest.errors import ConflictError, InvalidInputError, SVOpsError
from workflows import services
from workflows.admin.pages import (
    EMPTY,
    ChoiceFilter,
    Pages,
    actor,
    label,
    list_link,
    moment,
    page_link,
)
from workflows.lifecycle.moves import why_not_triggerable
from workflows.models import (
    Dag,
    Event,
    Grant,
    Level,
    Run,
    TriggerType,
    Workflow,
)

if TYPE_CHECKING:
    from accounts.models import User

    WorkflowModelForm = forms.ModelForm[Workflow]
    GrantRows = admin.TabularInline[Grant, Workflow]
else:
    WorkflowModelForm = forms.ModelForm
    GrantRows = admin.TabularInline


class LifeFilter(ChoiceFilter):
    title, parameter_name = "life", "life"
    unchosen = ("Alive", Q(deleted_at__isnull=True))
    choices_ = [("deleted", "Deleted", Q(deleted_at__isnull=False)), ("all", "All", Q())]


class WorkflowForm(WorkflowModelForm):
    """Saves through the services.

    A service checks and saves in one step. `clean` calls it, because there a refusal can still be shown at its field.
    The admin runs the whole request in one transaction.
    """

    actor: ClassVar[User]

    class Meta:
        model = Workflow
        fields = [
            "name", "description", "dag", "owner", "is_active", "visibility", "adopts_airflow_runs",
            "default_parameters", "result_task",
        ]  # fmt: skip
        labels = {"dag": "DAG"}
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
            return services.create_workflow(actor=self.actor, **cleaned)
        return services.update_workflow(workflow=self.instance, actor=self.actor, **cleaned)

    def _show(self, refusal: InvalidInputError) -> None:
        for key, texts in refusal.errors.items():
            field, _, part = key.partition(".")
            for text in texts:
                self.add_error(field if field in self.fields else None, f"{part}: {text}" if part else text)


class GrantInline(GrantRows):
    """Grants on a workflow: add or delete. A new grant replaces the level of an old one."""

    model = Grant
    extra = 0
    fields = ["user", "group", "level"]
    autocomplete_fields = ["user", "group"]

    def has_change_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return False


@admin.register(Workflow)
class WorkflowAdmin(Pages):
    names_airflow = "dag__airflow"
    form = WorkflowForm
    list_display = [
        "name", "dag_", "owner_", "is_active", "visibility", "open_runs", "last_run", moment("updated_at"),
    ]  # fmt: skip
    list_filter = [
        LifeFilter, "is_active", "visibility", "adopts_airflow_runs", "dag__is_paused", "dag__is_present", "created_at",
    ]  # fmt: skip
    list_select_related = ["dag", "owner"]
    search_fields = ["name", "description", "dag__dag_id", "owner__username", "owner__email"]
    date_hierarchy = "created_at"
    autocomplete_fields = ["dag", "owner"]
    readonly_fields = ["hindrance", "runs_", "events_", "created_at", "updated_at", "deleted_at"]
    fieldsets = [
        (None, {"fields": ["name", "description", "dag", "owner"]}),
        ("Access", {"fields": ["is_active", "visibility", "adopts_airflow_runs"]}),
        ("Parameters and result", {"fields": ["default_parameters", "result_task"]}),
        ("History", {"fields": ["hindrance", "runs_", "events_", "created_at", "updated_at", "deleted_at"]}),
    ]
    inlines = [GrantInline]
    actions = ["trigger", "delete_selected"]

    def annotations(self) -> dict[str, Any]:
        runs = Run.objects.filter(workflow=OuterRef("pk"))
        newest = runs.order_by("-created_at", "-id")
        return {
            "open_count": Subquery(runs.open().order_by().values("workflow").annotate(n=Count("pk")).values("n")),
            "last_run_id": Subquery(newest.values("pk")[:1]),
            "last_state": Subquery(newest.values("state")[:1]),
        }

    def get_fieldsets(self, request: HttpRequest, obj: Workflow | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:-1]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.actor = actor(request)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": actor(request).pk} | super().get_changeform_initial_data(request)

    def has_change_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.deleted_at)

    def has_delete_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.deleted_at)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has saved through the service."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        given = formset.save(commit=False)
        for grant in formset.deleted_objects:
            services.revoke(grant=grant, actor=actor(request))
        for new in given:
            services.grant(
                workflow=new.workflow, actor=actor(request), level=Level(new.level), user=new.user, group=new.group
            )

    # --- columns ------------------------------------------------------------------------------------------

    @admin.display(description="DAG", ordering="dag__dag_id")
    def dag_(self, workflow: Workflow) -> str:
        return page_link(workflow.dag)

    @admin.display(description="owner", ordering="owner__username")
    def owner_(self, workflow: Workflow) -> str:
        return page_link(workflow.owner)

    @admin.display(description="open runs", ordering="open_count")
    def open_runs(self, workflow: Any) -> str:
        return list_link(Run, str(workflow.open_count or 0), workflow__id__exact=workflow.pk, progress="open")

    @admin.display(description="last run", ordering="last_state")
    def last_run(self, workflow: Any) -> str:
        if workflow.last_run_id is None:
            return EMPTY
        url = reverse("admin:workflows_run_change", args=[workflow.last_run_id])
        return format_html('<a href="{}">{}</a>', url, label(workflow.last_state))

    @admin.display(description="runs")
    def runs_(self, workflow: Workflow) -> str:
        return list_link(Run, "all runs", workflow__id__exact=workflow.pk)

    @admin.display(description="events")
    def events_(self, workflow: Workflow) -> str:
        return list_link(Event, "events", workflow__id__exact=workflow.pk)

    @admin.display(description="cannot be triggered")
    def hindrance(self, workflow: Workflow) -> str:
        return why_not_triggerable(workflow) or EMPTY

    # --- trigger and delete -------------------------------------------------------------------------------

    def has_trigger_permission(self, request: HttpRequest) -> bool:
        return actor(request).has_perm("workflows.add_run")

    @admin.action(description="Trigger with the default parameters", permissions=["trigger"])
    def trigger(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        def act(workflow: Workflow) -> str:
            run = services.trigger_run(workflow=workflow, user=actor(request), trigger_type=TriggerType.ADMIN)
            return f"triggered, {run} is {run.state}"

        self.each(request, queryset, act)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what the confirmation lists: only the workflows, since their runs and events are kept."""
        return [str(workflow) for workflow in objs], {"workflows": len(objs)}, set(), []

    @admin.action(description="Delete selected workflows", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> HttpResponse | None:
        if not request.POST.get("post"):
            return ask_first(self, request, queryset)

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
