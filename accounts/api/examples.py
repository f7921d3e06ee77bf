"""Example requests and answers in the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping

from drf_spectacular.utils import OpenApiExample

USER = {
    "id": 7,
    "username": "ada",
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "user",
    "is_active": True,
    "date_joined": "2026-01-05T09:00:00Z",
    "last_login": "2026-01-05T09:00:00Z",
}
PASSWORD, NEW_PASSWORD = "correct horse", "battery staple"
REFRESH_TOKEN = "eyJhbGciOiJIUzI1NiIs…"  # noqa: S105 - an example
TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIs…",
    "refresh_token": REFRESH_TOKEN,
    "token_type": "bearer",
    "expires_in": 900,
    "user": USER,
}


def request(body: Mapping[str, object]) -> OpenApiExample:
    return OpenApiExample("Request", value=body, request_only=True)


def answer(body: Mapping[str, object], code: int = 200) -> OpenApiExample:
    return OpenApiExample("Answer", value=body, response_only=True, status_codes=[str(code)])
