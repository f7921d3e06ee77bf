"""Routes below /api/v1."""

from django.urls import path, re_path
from rest_framework.routers import SimpleRouter
from rest_framework_nested.routers import NestedSimpleRouter

from rest import ids  # noqa: F401 - `<id:…>`
from workflows.api import (
    airflow_views,
    dag_rule_views,
    dag_views,
    event_views,
    ingest_view,
    log_stream,
    log_views,
    run_views,
    ticket_views,
    workflow_views,
)
from workflows.naming import PATTERN

router = SimpleRouter(trailing_slash=False)
router.register("airflows", airflow_views.AirflowViewSet, basename="airflow")
router.register("dags", dag_views.DagViewSet)
router.register("dag-rules", dag_rule_views.DagRuleViewSet, basename="dag-rule")
router.register("workflows", workflow_views.WorkflowViewSet, basename="workflow")
router.register("runs", run_views.RunViewSet, basename="run")
router.register("tickets", ticket_views.TicketViewSet, basename="ticket")
of_workflow = NestedSimpleRouter(router, "workflows", lookup="workflow", trailing_slash=False)
of_workflow.register("runs", run_views.WorkflowRunViewSet, basename="workflow-run")

LOGS = "workflows/<int:workflow_pk>/runs/<id:pk>/tasks/<str:task_id>/logs"

urlpatterns = [
    *router.urls,
    *of_workflow.urls,
    path(LOGS, log_views.TaskLogView.as_view(), name="task-log"),
    path(f"{LOGS}/stream", log_stream.log_stream, name="task-log-stream"),
    path("ingest", ingest_view.ingest, name="ingest"),
    re_path(rf"^ingest/(?P<airflow>{PATTERN})$", ingest_view.ingest, name="ingest-of"),
    path("events", event_views.EventsView.as_view(), name="events"),
    path("events/stream", event_views.event_stream, name="event-stream"),
]
