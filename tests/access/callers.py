"""Who asks: every kind of caller, and every kind of bad token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
from django.conf import settings as django_settings
from django.utils import timezone

from accounts import services
from accounts.identity import Scope
from accounts.models import User
from tests.access.world import HOUR, ROLES, RUN_ONLY, World, new_key, new_ticket


def _forged(user: User, *, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """Make a token for a live sign-in, with another key or with other claims than ours."""
    services.sign_in(user=user)
    now = timezone.now()
    payload = {
        "token_type": "access", "sub": str(user.pk), "sid": str(user.sign_ins.first().pk), "jti": "1" * 32,  # type: ignore[union-attr]
        "role": user.role, "scopes": sorted(Scope), "aud": "svops", "iss": "svops", "iat": now, "exp": now + HOUR,
    } | claims  # fmt: skip
    signed_with = django_settings.SECRET_KEY if key is None else key
    return jwt.encode(payload, signed_with if algorithm != "none" else "", algorithm=algorithm)


def _revoked(world: World) -> str:
    tokens = services.sign_in(user=world.users["admin"])
    services.logout(refresh_token=tokens.refresh_token)
    return tokens.access_token


# Every kind of caller, by the token that they present.
CALLERS: dict[str, Callable[[World], str]] = {
    "anonymous": lambda world: "",
    **{name: lambda world, name=name: services.sign_in(user=world.users[name]).access_token for name in ROLES},  # type: ignore[misc]
    "key": lambda world: new_key(world.users["owner"], RUN_ONLY).text,
    "bounded key": lambda world: new_key(world.users["admin"], RUN_ONLY, workflow_ids=[world.workflow.pk]).text,
    "ticket": lambda world: new_ticket(world.users["owner"], world.run, "view").text,
}
# Tokens that no endpoint accepts. Most are made for an administrator, so an accepted one would open everything.
FORGERIES: dict[str, Callable[[World], str]] = {
    "expired": lambda world: _forged(world.users["admin"], exp=timezone.now() - HOUR),
    "algorithm none": lambda world: _forged(world.users["admin"], algorithm="none"),
    "wrong key": lambda world: _forged(world.users["admin"], key="not ours, but long enough for an HMAC with SHA-256"),
    "wrong audience": lambda world: _forged(world.users["admin"], aud="elsewhere"),
    "wrong issuer": lambda world: _forged(world.users["admin"], iss="elsewhere"),
    "refresh token": lambda world: services.sign_in(user=world.users["admin"]).refresh_token,
    "signed out": _revoked,
    "no such key": lambda world: "svops_0123456789ab_" + "x" * 43,
    "no such ticket": lambda world: "svopst_0123456789ab_" + "x" * 43,
}
