"""The process in which Apprise runs: one order on its input, one answer on its output.

An audit hook sees every connection that Python code in this process opens, after the name was resolved, and ends
those that the policy does not permit: what was checked is what is connected to.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import resource
import sys
from typing import Any

from notifications.outgoing import Client, Deadline, NoAnswerError, Policy, RefusedError

MEMORY = 1_000_000_000  # bytes; an endless answer ends this process and nothing else
# These talk to the machine that we run on.
LOCAL = {"dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "syslog"}
FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.", "ctypes.")


class Guard:
    """The audit hook. `refused` tells what it did not let happen, since libraries swallow what it raises."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.refused = ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            self._check(arguments[-1])
        elif event.startswith(FORBIDDEN):
            self._refuse(f"{event} is not allowed")

    def _check(self, address: Any) -> None:
        if address is None:  # a datagram on a socket that was connected, and checked, before
            return
        if not isinstance(address, tuple):
            self._refuse("local sockets are not allowed")
        host = str(address[0])
        try:
            permitted = self.policy.permits(ipaddress.ip_address(host))
        except ValueError:
            self._refuse(f"{host} was not resolved before it was connected to")
        if not permitted:
            self._refuse(
                f"it leads to the address {host}, which is not public: an operator can allow it with "
                "NOTIFICATION_ALLOWED_NETWORKS."
            )

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        raise PermissionError(reason)


def main() -> None:
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    json.dump(_carry_out(order), sys.stdout)


def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    import apprise  # here, because it takes a second that the tests of the guard need not wait for

    policy = Policy(tuple(ipaddress.ip_network(network) for network in order["allowed"]))
    service = None
    if order["url"].partition("://")[0].lower() not in LOCAL:
        service = apprise.Apprise.instantiate(order["url"], suppress_exceptions=True)
    if service is None:
        return {"error": "Apprise does not know such a URL.", "gone": True}
    if order["do"] == "check":
        return {"error": _why_not(service, policy), "gone": False}
    guard = Guard(policy)
    sys.addaudithook(guard)
    service.redirects = False
    kind = apprise.NotifyType(order["type"])
    sent = service.notify(title=order["title"], body=order["text"], notify_type=kind)
    if guard.refused:
        return {"error": f"refused: {guard.refused}", "gone": False}
    return {"error": "" if sent else "Apprise could not deliver it.", "gone": False}


def _why_not(service: Any, policy: Policy) -> str:
    """Why the hosts that the URL itself names may not be reached; empty when they may.

    Only what can be known without sending; the guard sees the rest when something is sent.
    """
    hosts = {str(host).strip("[]") for name in ("host", "smtp_host") if (host := getattr(service, name, None))}
    for host in hosts:
        try:
            Client(policy=policy).resolve(host, 443, Deadline.after(5))
        except RefusedError as exc:
            return str(exc)
        except NoAnswerError:
            continue  # many services keep something else than a host there
    return ""


if __name__ == "__main__":
    main()
