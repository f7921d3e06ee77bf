"""The services of Apprise that were reviewed, with their options. A leaf: it knows no Django and no Apprise.

Reviewed means that a service connects to one host over HTTP, reads and writes no file, runs nothing, and reaches nobody
but the owner of the account in its URL. All other options are refused: `template` and `attach` read files, `retry` and
`wait` hold a worker, `verify` and `redirect` weaken the connection, `+name` adds headers.
"""

from __future__ import annotations

import re

COMMON = frozenset({"format", "overflow", "emojis", "tz"})
_ROOMS = frozenset({"to"})
SCHEMES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("bark", "barks"), frozenset({"sound", "group", "level"})),
    "dingtalk": frozenset({"secret", "to", "token"}),
    "discord": frozenset({"thread", "tts", "footer", "fields"}),
    "feishu": frozenset({"token"}),
    "flock": _ROOMS,
    "gchat": frozenset({"thread", "token", "key", "workspace"}),
    **dict.fromkeys(("gotify", "gotifys"), frozenset({"priority"})),
    "guilded": frozenset({"footer", "fields"}),
    **dict.fromkeys(("json", "jsons", "xml", "xmls", "form", "forms"), frozenset()),
    "lark": frozenset(),
    "line": _ROOMS,
    **dict.fromkeys(("matrix", "matrixs"), frozenset({"mode", "msgtype", "to", "token", "version"})),
    **dict.fromkeys(("mmost", "mmosts"), frozenset({"botname", "channel", "channels", "to", "team", "mode"})),
    **dict.fromkeys(("ntfy", "ntfys"), frozenset({"mode", "priority", "to", "token", "auth", "xtags"})),
    "opsgenie": frozenset({"priority", "region", "tags", "to", "alias", "entity"}),
    "pagerduty": frozenset({"region", "severity", "group", "class"}),
    "pbul": _ROOMS,
    "pover": frozenset({"priority", "sound", "to", "expire", "interval"}),
    "prowl": frozenset({"priority"}),
    **dict.fromkeys(("rocket", "rockets"), frozenset({"mode", "to", "webhook"})),
    "ryver": frozenset({"mode"}),
    "tgram": frozenset({"silent", "preview", "thread", "topic", "to"}),
    "twist": _ROOMS,
    "victorops": frozenset({"routing_key", "apikey"}),
    "wecombot": frozenset({"key"}),
    **dict.fromkeys(("webex", "wxteams"), frozenset({"mode", "to", "token"})),
    **dict.fromkeys(("workflow", "workflows"), frozenset({"id", "sig", "ver", "api-version", "route", "pa"})),
    "zulip": frozenset({"to", "token"}),
}
# Their URLs begin with a host. In the others, an id of the service stands there.
WITH_HOST = frozenset(
    f"{name}{secure}"
    for name in ("bark", "form", "gotify", "json", "matrix", "mmost", "ntfy", "rocket", "xml")
    for secure in ("", "s")
)
_SCHEME = re.compile(r"([a-z0-9]{1,12})://", re.IGNORECASE)


def scheme_of(url: str) -> str | None:
    """Return the scheme if its service was reviewed."""
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    return scheme if scheme in SCHEMES else None


def refused_options(scheme: str, options: set[str]) -> list[str]:
    """Return the options that were not reviewed for this service."""
    return sorted(options - COMMON - SCHEMES[scheme])
