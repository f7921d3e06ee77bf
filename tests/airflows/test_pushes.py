"""Where the listener of each Airflow pushes to."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/ingest", 401),
        ("/api/v1/ingest/", 401),
        ("/api/v1/ingest/prod", 401),
        ("/api/v1/ingest/prod/", 401),
        ("/api/v1/ingest/prod/more", 301),
        ("/api/v1/runs", 301),
    ],
)
def test_a_push_of_any_airflow_needs_no_tls_proxy(settings: Settings, path: str, status: int) -> None:
    """Before: pushes of further ones were redirected to https, which the listener does not follow."""
    settings.SECURE_SSL_REDIRECT = True

    assert Client().post(path, "{}", content_type="application/json").status_code == status
