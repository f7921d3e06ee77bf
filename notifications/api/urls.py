"""Routes below /api/v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from notifications.api import views

router = SimpleRouter(trailing_slash=False)
router.register("configs", views.ConfigViewSet, basename="notification-config")
router.register("deliveries", views.DeliveryViewSet, basename="notification-delivery")

urlpatterns: list[URLPattern | URLResolver] = [
    path("notifications/types", views.TypesView.as_view(), name="notification-types"),
    path("notifications/", include(router.urls)),
]
