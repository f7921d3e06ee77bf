"""Strict query strings: a parameter that is unknown or makes no sense is an error, never ignored."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from django.http import QueryDict
from rest_framework.request import Request

from rest.errors import InvalidInputError

# Every view knows it: it chooses one of its representations.
FORMAT = "format"
# Names fields of a list that are large and rarely wanted.
INCLUDE = "include"
ORDERING = "ordering"
SEVERAL = "Several are repeated, or separated by commas."
LARGEST_INTEGER = 2**63 - 1  # the largest that a database stores
WHOLE = re.compile(r"-?[0-9]{1,19}")


def check_query(given: QueryDict, known: Collection[str], *, several_times: Collection[str] = ()) -> None:
    """Raise `InvalidInputError` for each parameter that is unknown, or that comes twice and is none of the last.

    Of one that comes twice, each part of a system could read another one.
    """
    if unknown := sorted(set(given) - set(known)):
        named = set(known) - {FORMAT}
        expected = f"Unknown parameter; expected {one_of(named)}." if named else "Unknown parameter; none is expected."
        raise InvalidInputError({name: [expected] for name in unknown})
    counts = {name: len(values) for name, values in given.lists() if name not in several_times}
    if twice := {name: [f"Given {count} times; expected once."] for name, count in counts.items() if count > 1}:
        raise InvalidInputError(twice)


def one_of(names: Iterable[str]) -> str:
    """Return the choices as a part of a sentence."""
    given = sorted(names)
    return given[0] if len(given) == 1 else f"one of {', '.join(given)}"


class StrictQuery:
    """Mixin of views, placed before DRF's: an unknown parameter is an error.

    A view knows the parameters of its filters and, on a list, of its pages. It names others in `query_parameters`,
    by action or by method, and in `several_times` those that may come more than once, as the order always may.
    """

    query_parameters: ClassVar[Mapping[str, Collection[str]]] = {}
    several_times: ClassVar[Collection[str]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]  # the view's
        check_query(
            request.query_params,
            {*self._known(request), FORMAT},
            several_times={*self.several_times, ORDERING, INCLUDE},
        )

    def _known(self, request: Request) -> set[str]:
        method = "GET" if request.method == "HEAD" else str(request.method)
        named = self.query_parameters.get(getattr(self, "action", None) or method, ())
        return {*named, *(_of_list(self) if method == "GET" and getattr(self, "detail", None) is False else ())}


def _of_list(view: Any) -> set[str]:
    names: set[str] = set()
    for backend in view.filter_backends:
        names |= backend().parameters(view)
    of_pages = ("page_query_param", "page_size_query_param", "cursor_query_param")
    return names | {name for option in of_pages if (name := getattr(view.paginator, option, None))}


def whole(name: str, raw: str | None, *, at_least: int = 0, at_most: int = LARGEST_INTEGER) -> int | None:
    """Read a whole number; raise `InvalidInputError` with the parameter's name and the bounds."""
    if raw is None:
        return None
    if not WHOLE.fullmatch(raw) or not at_least <= int(raw) <= at_most:
        bounds = f"{at_least} to {at_most}" if at_most < LARGEST_INTEGER else f"{at_least} or more"
        raise InvalidInputError({name: [f"Expected a whole number, {bounds}."]})
    return int(raw)


def terms(request: Request, name: str) -> list[str]:
    """Return the values of a parameter that takes several: it may be repeated, or separate them by commas."""
    given = ",".join(request.query_params.getlist(name))
    return [term.strip() for term in given.split(",") if term.strip()]


def included(request: Request, offered: Collection[str]) -> set[str]:
    """Return the fields that `?include=` asks for; raise `InvalidInputError` for one that is not offered."""
    names = set(terms(request, INCLUDE))
    if not names <= set(offered):
        raise InvalidInputError({INCLUDE: [f"Expected {one_of(offered)}."]})
    return names
