"""Paths below `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from accounts.api import audit_views, key_views, views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("users", views.UserViewSet, basename="user")
router.register("api-keys", key_views.ApiKeyViewSet, basename="api-key")

router.register("audit", audit_views.AuditViewSet, basename="audit")

urlpatterns: list[URLPattern | URLResolver] = [
    path("auth/register", views.RegisterView.as_view(), name="register"),
    path("auth/login", views.LoginView.as_view(), name="login"),
    path("auth/oidc", views.SingleSignOnView.as_view(), name="oidc"),
    path("auth/refresh", views.RefreshView.as_view(), name="refresh"),
    path("auth/logout", views.LogoutView.as_view(), name="logout"),
    path("auth/me", views.MeView.as_view(), name="me"),
    path("auth/change-password", views.ChangePasswordView.as_view(), name="change-password"),
    path("", include(router.urls)),
]
