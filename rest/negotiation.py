"""Which form an answer has."""

from __future__ import annotations

from collections.abc import Iterable

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer

from rest.query import FORMAT, one_of


class Negotiation(DefaultContentNegotiation):
    """Refuses a `?format=` that there is not with 406; DRF would say that there is no such page."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        known = list(renderers)
        fitting = [renderer for renderer in known if renderer.format == format]
        if not fitting:
            offered = one_of(str(renderer.format) for renderer in known)
            raise NotAcceptable(f"There is no {FORMAT} of this name; expected {offered}.")
        return fitting
