"""Paths below `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from accounts.api import audit_views, auth_views, factor_views, key_views, me_views, session_views, user_views
from rest import ids  # noqa: F401 - `<id:…>`

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("users", user_views.UserViewSet, basename="user")
router.register("api-keys", key_views.ApiKeyViewSet, basename="api-key")
router.register("audit", audit_views.AuditViewSet, basename="audit")

urlpatterns: list[URLPattern | URLResolver] = [
    path("auth/register", auth_views.RegisterView.as_view(), name="register"),
    path("auth/login", auth_views.LoginView.as_view(), name="login"),
    path("auth/oidc", auth_views.SingleSignOnView.as_view(), name="oidc"),
    path("auth/refresh", auth_views.RefreshView.as_view(), name="refresh"),
    path("auth/logout", auth_views.LogoutView.as_view(), name="logout"),
    path("auth/me", me_views.MeView.as_view(), name="me"),
    path("auth/sessions", session_views.SessionsView.as_view(), name="session-list"),
    path("auth/sessions/<id:session_id>", session_views.SessionView.as_view(), name="session-detail"),
    path("auth/sign-out-everywhere", session_views.SignOutEverywhereView.as_view(), name="sign-out-everywhere"),
    path("auth/second-factor", factor_views.BeginFactorView.as_view(), name="begin-factor"),
    path("auth/second-factor/confirm", factor_views.ConfirmFactorView.as_view(), name="confirm-factor"),
    path("auth/second-factor/recovery-codes", factor_views.RecoveryCodesView.as_view(), name="recovery-codes"),
    path("auth/second-factor/disable", factor_views.DisableFactorView.as_view(), name="disable-factor"),
    path("auth/change-password", me_views.ChangePasswordView.as_view(), name="change-password"),
    path("", include(router.urls)),
]
