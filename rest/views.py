"""A decorator of plain Django views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

View = TypeVar("View", bound=Callable[..., Any])


def reads_only(view: View) -> View:
    """Answer 405 to any method that could change something, without asking for a CSRF token first."""
    return csrf_exempt(require_safe(view))
