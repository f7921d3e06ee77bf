"""`manage.py create_search_index`: makes `?search=` fast where the migration could not."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand

from workflows import search


class Command(BaseCommand):
    help = "Creates the index for ?search= on PostgreSQL, or creates it again, while SVOps runs."

    def handle(self, *args: Any, **options: Any) -> None:
        search.create_search_index()
