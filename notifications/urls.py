"""Pages for people without an account."""

from __future__ import annotations

from django.urls import URLPattern, path

from notifications import pages

urlpatterns: list[URLPattern] = [path("notifications/confirm", pages.confirm, name="notification-confirm")]
