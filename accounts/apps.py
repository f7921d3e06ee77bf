from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import audit, sessions
        from accounts.api import schema  # noqa: F401 - registers itself, once the apps are loaded

        # Django's own forms sign in and out without our services.
        user_logged_in.connect(sessions.began, dispatch_uid="sessions")
        user_logged_in.connect(audit.session_began, dispatch_uid="audit")
        user_logged_out.connect(audit.session_ended, dispatch_uid="audit")
