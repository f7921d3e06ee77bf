"""The ways in whose credentials somebody else gives us. Each module is one way and imports what it needs when used.

`access` describes them, `credentials` keeps and renews what they return.
"""

from __future__ import annotations

from ..access import Access, Command, Google, Mwaa, OAuth2, Password, StaticToken, is_invoked
from ..credentials import Keeper, Source, Store
from . import command, google, mwaa, oauth2


def keep(access: Access, store: Store | None = None) -> Keeper:
    """Return a keeper of the credentials for this Airflow."""
    # Another process may be asking, then we ask: each within its limit.
    return Keeper(source(access), limit=3 * access.token_timeout, store=store)


def is_kept(access: Access) -> bool:
    """Return whether somebody else gives us the credentials, so that they are kept, shared and renewed."""
    return not isinstance(access.way, Password | StaticToken) and not is_invoked(access.way)


def source(access: Access) -> Source:
    """Return where the credentials of this way come from."""
    match access.way:
        case OAuth2():
            return oauth2.Source(access, access.way)
        case Google():
            return google.Source(access, access.way)
        case Mwaa():
            return mwaa.Source(access, access.way)
        case Command():
            return command.Source(access, access.way)
        case Password() | StaticToken():
            raise TypeError(f"{type(access.way).__name__} is no way whose credentials somebody else gives us")
