"""Ids in URLs and queries. A UUID is the same with and without dashes."""

from __future__ import annotations

import re
from uuid import UUID

from django.urls import register_converter

UUID_PATTERN = "[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}"


class UuidConverter:
    """`<id:…>` in a path: a UUID as it is written everywhere else; Django's own wants dashes and small letters."""

    regex = UUID_PATTERN

    def to_python(self, value: str) -> UUID:
        return UUID(value)

    def to_url(self, value: UUID | str) -> str:
        return str(value)


register_converter(UuidConverter, "id")


def read_uuid(text: str) -> UUID:
    """Return the UUID; raise `ValueError` for what is none. Python's own takes braces and `urn:` too."""
    if not re.fullmatch(UUID_PATTERN, text):
        raise ValueError("expected a UUID")
    return UUID(text)
