"""Routes below /api/v1."""

from django.urls import path
from rest_framework.routers import SimpleRouter
from rest_framework_nested.routers import NestedSimpleRouter

from workflows.api import event_views, ingest_view, views

router = SimpleRouter(trailing_slash=False)
router.register("dags", views.DagViewSet)
router.register("workflows", views.WorkflowViewSet, basename="workflow")
router.register("runs", views.RunViewSet, basename="run")
of_workflow = NestedSimpleRouter(router, "workflows", lookup="workflow", trailing_slash=False)
of_workflow.register("runs", views.WorkflowRunViewSet, basename="workflow-run")

urlpatterns = [
    *router.urls,
    *of_workflow.urls,
    path("ingest", ingest_view.ingest, name="ingest"),
    path("events", event_views.EventsView.as_view(), name="events"),
    path("events/stream", event_views.event_stream, name="event-stream"),
]
