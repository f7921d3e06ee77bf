"""Create the first administrator."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import services
from rest import env
from rest.errors import InvalidInputError


class Command(BaseCommand):
    help = (
        "Create the first administrator from SVOPS_ADMIN_USERNAME, _EMAIL and _PASSWORD. "
        "Do nothing if there is one already. Without a password, make a random one and print it once."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        username = env.text("SVOPS_ADMIN_USERNAME", default="admin")
        given = env.text("SVOPS_ADMIN_PASSWORD")
        password = given or secrets.token_urlsafe(12)
        try:
            created = services.ensure_admin(
                username=username,
                email=env.text("SVOPS_ADMIN_EMAIL", default="admin@localhost"),
                password=password,
            )
        except InvalidInputError as exc:
            reasons = " ".join(message for messages in exc.errors.values() for message in messages)
            raise CommandError(f"The administrator {username!r} cannot be created: {reasons}") from exc
        if created is None:
            self.stdout.write("There is an administrator already; nothing was changed.")
        elif given:
            self.stdout.write(f"Created the administrator {username}.")
        else:
            self.stdout.write(f"Created the administrator {username} with the password {password}")
