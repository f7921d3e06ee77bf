"""Where a request comes from: the address, and the program as it names itself."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

from accounts.addresses import address_of

LONGEST_DEVICE = 200


@dataclass(frozen=True, kw_only=True)
class Origin:
    address: str = ""
    device: str = ""


def origin_of(request: HttpRequest | None) -> Origin:
    if request is None:
        return Origin()
    device = "".join(filter(str.isprintable, str(request.META.get("HTTP_USER_AGENT", ""))))
    return Origin(address=address_of(request), device=device[:LONGEST_DEVICE])
