"""The index of the search on PostgreSQL, where its extension can be created and where it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection

from accounts.models import User
from workflows import search
from workflows.conftest import bearer, token_of
from workflows.models import Workflow
from workflows.tests.stage import new_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def _as_it_was(db: None) -> Iterator[None]:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    yield
    _run("RESET ROLE")
    search.create_search_index()


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def index_is_valid() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = %s", ["run_search"]
        )
        return bool(cursor.fetchall() == [(True,)])


@pytest.mark.parametrize("before", ["DROP INDEX IF EXISTS run_search", "SELECT 1"], ids=["none", "one"])
def test_the_command_creates_the_index_or_creates_it_again(before: str) -> None:
    _run(before)

    call_command("create_search_index")

    assert index_is_valid()


def test_without_the_right_to_create_the_extension_it_says_what_to_do_and_the_search_works(
    root: User, nightly: Workflow, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(nightly, note="a needle")
    _run("DROP EXTENSION pg_trgm CASCADE")
    _run("DO $$ BEGIN CREATE ROLE no_extensions; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    _run("SET ROLE no_extensions")

    search.create_search_index()

    _run("RESET ROLE")
    said = capsys.readouterr().out
    assert "CREATE EXTENSION IF NOT EXISTS pg_trgm;" in said
    assert "manage.py create_search_index" in said
    assert not index_is_valid()
    found = bearer(token_of(root)).get("/api/v1/runs?search=needle").json()["results"]
    assert [row["id"] for row in found] == [str(run.pk)]
