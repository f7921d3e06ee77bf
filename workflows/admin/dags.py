"""The pages of DAGs, and the button that syncs them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from rest.errors import SVOpsError
from workflows import gateway
from workflows.admin.pages import (
    EMPTY,
    ReadOnlyPages,
    actor,
    airflows_of,
    labels,
    list_link,
    moment,
    pretty,
    short,
)
from workflows.models import (
    Dag,
    DagFileError,
    Run,
    Workflow,
)
from workflows.watch import dags


@admin.register(Dag)
class DagAdmin(ReadOnlyPages):
    names_airflow = "airflow"
    list_display = [
        "dag_id", "status", "tags_", "timetable_summary", "workflows_", "runs_", moment("synced_at"),
    ]  # fmt: skip
    list_filter = [
        "is_present", "is_paused", ("import_error", admin.EmptyFieldListFilter),
        ("unusable_reason", admin.EmptyFieldListFilter), "synced_at",
    ]  # fmt: skip
    search_fields = ["dag_id", "description", "tags", "owners", "fileloc"]
    fieldsets = [
        (None, {"fields": ["dag_id", "status", "description", "tags_", "owners_", "workflows_", "runs_"]}),
        (
            "In Airflow",
            {
                "fields": [
                    "timetable_summary",
                    "max_active_runs",
                    "bundle_name",
                    "fileloc",
                    moment("synced_at"),
                    "import_error_",
                    "unusable_reason",
                    "refused_",
                ]
            },
        ),
        ("Tasks", {"fields": ["task_graph"]}),
        ("Parameters", {"fields": ["schema"]}),
        ("Documentation", {"classes": ["collapse"], "fields": ["doc_md"]}),
    ]

    def annotations(self) -> dict[str, Any]:
        # A subquery, not a join: with GROUP BY, Django drops the model's ordering.
        alive = Workflow.objects.alive().filter(dag=OuterRef("pk")).order_by()
        return {"workflow_count": Subquery(alive.values("dag").annotate(n=Count("pk")).values("n"))}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, may_have_duplicates = super().get_search_results(request, queryset, search_term)
        if request.GET.get("field_name") == "dag":  # a workflow needs a DAG that is in Airflow
            found = found.filter(is_present=True)
        return found, may_have_duplicates

    @admin.display(ordering="is_present")
    def status(self, dag: Dag) -> SafeString:
        marks = [] if dag.is_present else [("gone from Airflow", "failed")]
        marks += [("import error", "failed")] if dag.import_error else []
        marks += [("unusable", "failed")] if dag.unusable_reason else []
        marks += [("refused by Airflow", "failed")] if dag.refused else []
        marks += [("paused", "warning")] if dag.is_paused else []
        return labels(*(marks or [("ready", "success")]))

    @admin.display(description="tags")
    def tags_(self, dag: Dag) -> str:
        return ", ".join(dag.tags)

    @admin.display(description="owners")
    def owners_(self, dag: Dag) -> str:
        return ", ".join(dag.owners)

    @admin.display(description="workflows", ordering="workflow_count")
    def workflows_(self, dag: Any) -> str:
        return list_link(Workflow, str(dag.workflow_count or 0), dag__id__exact=dag.pk)

    @admin.display(description="runs")
    def runs_(self, dag: Dag) -> str:
        return list_link(Run, "runs", dag_id=dag.dag_id, airflow__name=dag.airflow_name)

    @admin.display(description="import error")
    def import_error_(self, dag: Dag) -> str:
        return format_html("<pre>{}</pre>", dag.import_error) if dag.import_error else EMPTY

    @admin.display(description="refused by Airflow")
    def refused_(self, dag: Dag) -> str:
        return dag.refused_reason or EMPTY

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
        """Sync the DAGs of every active Airflow now, and show what has changed."""
        if not self.has_sync_permission(request):
            return HttpResponse("You are not allowed to sync DAGs.", status=403)
        known = airflows_of(request)
        for name in [name for name, airflow in known.items() if airflow.is_active]:
            level, said = _synced(name)
            self.message_user(request, f"{name}: {said}" if len(known) > 1 else said, level)
        return HttpResponseRedirect(reverse("admin:workflows_dag_changelist"))


@admin.register(DagFileError)
class DagFileErrorAdmin(ReadOnlyPages):
    names_airflow = "airflow"
    list_display = ["filename", "bundle_name", "last_line"]
    search_fields = ["filename", "bundle_name", "error"]
    fields = ["filename", "bundle_name", "error_"]

    @admin.display(description="error")
    def last_line(self, file: DagFileError) -> str:
        return short(file.error.strip().rpartition("\n")[2])

    @admin.display(description="error")
    def error_(self, file: DagFileError) -> SafeString:
        return format_html("<pre>{}</pre>", file.error)


def _synced(airflow: str) -> tuple[int, str]:
    try:
        with gateway.translated(airflow):
            done = dags.sync_dags(airflow, now=timezone.now(), whole=True)
    except SVOpsError as exc:
        return messages.ERROR, f"The DAGs were not synced. {exc}"
    return messages.WARNING if done.import_errors or done.unusable else messages.SUCCESS, _sentence(done)


def _sentence(done: dags.SyncResult) -> str:
    found = f"Airflow has {len(done.seen)} DAG{'' if len(done.seen) == 1 else 's'}"
    named = {
        "changed": done.changed,
        "gone": done.vanished,
        "with import errors": done.import_errors,
        "unusable": done.unusable,
    }
    parts = [f"{what}: {', '.join(dag_ids)}" for what, dag_ids in named.items() if dag_ids]
    return "; ".join([found, *(parts or ["nothing changed"])]) + "."
