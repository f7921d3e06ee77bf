"""The process in which Apprise runs: it reads orders from its input and writes an answer to each, a line for a line.

An audit hook sees every connection that Python code opens in this process, after the name was resolved. It stops the
connections that the policy does not permit, so the address that was checked is the address that is connected to.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import resource
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from notifications.addresses import Policy
from notifications.apprise_schemes import WITH_HOST, refused_options, scheme_of
from notifications.outgoing import Client, Deadline, NoAnswerError, RefusedError

MEMORY = 1_000_000_000  # bytes; an endless answer ends only this process
FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.", "ctypes.")


# What Python reads while it sends: its own modules, certificates, and the configuration of the resolver.
_READABLE = (
    sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parent), "/usr/lib", "/usr/local/lib", "/usr/share",
    "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
    "/etc/services", "/etc/gai.conf", "/etc/host.conf", "/etc/mime.types", "/etc/localtime", "/dev/null",
    "/dev/urandom", *(os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ),
)  # fmt: skip
READABLE = tuple(os.path.realpath(path) for path in _READABLE)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """The audit hook. `refused` holds the reason of the last refusal, because libraries may swallow the exception."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.refused = ""
        self._is_hooked = False

    def begin(self) -> None:
        """Watch this process from now on: an audit hook stays to the end."""
        if not self._is_hooked:
            sys.addaudithook(self)
            self._is_hooked = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            self._check(arguments[-1])
        elif event == "open":
            self._check_file(*arguments)
        elif event.startswith(FORBIDDEN):
            self._refuse(f"{event} is not allowed")

    def _check(self, address: Any) -> None:
        if address is None:  # a datagram on a socket whose connection was checked before
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
                "it has no public address. An operator can allow a private network with NOTIFICATION_ALLOWED_NETWORKS."
            )

    def _check_file(self, path: Any, mode: Any, flags: int) -> None:
        if isinstance(path, int):
            return  # a file that is open already
        real = os.path.realpath(os.fsdecode(path))
        if flags & WRITING or not any(real == each or real.startswith(f"{each}/") for each in READABLE):
            # Not a refusal of the message: libraries look for files of their own, and go on without them.
            raise PermissionError("files of this machine are not for messages")

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        raise PermissionError(reason)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable(logging.CRITICAL)
    guard = Guard(Policy())
    for line in sys.stdin:
        # A service that prints something must not spoil the answer.
        with redirect_stdout(sys.stderr):
            given = answer(json.loads(line), guard)
        sys.stdout.write(f"{json.dumps(given)}\n")
        sys.stdout.flush()


def answer(order: dict[str, Any], guard: Guard) -> dict[str, Any]:
    """Check or send, as the order says; return the error, which is empty on success."""
    scheme = scheme_of(order["url"])
    if scheme is None:
        return _error("Must be a URL of a service that was reviewed.", permanent=True)
    import apprise  # here, because it takes a second, and the tests of the guard need no Apprise
    from apprise.utils.parse import parse_url

    guard.policy, guard.refused = Policy(tuple(ipaddress.ip_network(network) for network in order["allowed"])), ""
    # The parser of Apprise itself, so that nobody can write an option that only one of us sees.
    parsed = parse_url(order["url"], verify_host=False) or {}  # type: ignore[no-untyped-call]
    if refused := refused_options(scheme, set(parsed.get("qsd", ()))):
        return _error(f"These options are not allowed: {', '.join(refused)}.", permanent=True)
    service = apprise.Apprise.instantiate(order["url"], suppress_exceptions=True)
    if service is None:
        return _error("Must be a URL that Apprise knows.", permanent=True)
    if order["do"] == "check":
        return _error(_why_not(service, guard.policy) if scheme in WITH_HOST else "")
    guard.begin()
    service.redirects = False
    kind = apprise.NotifyType(order["type"])
    sent = service.notify(title=order["title"], body=order["text"], notify_type=kind)
    if guard.refused:
        return _error(f"refused: {guard.refused}")
    return _error("" if sent else "Apprise could not deliver it.")


def _error(text: str, *, permanent: bool = False) -> dict[str, Any]:
    return {"error": text, "permanent": permanent}


def _why_not(service: Any, policy: Policy) -> str:
    """Return why a host in the URL is refused; empty if none is.

    Other hosts are known only when something is sent: the guard sees those.
    """
    hosts = {str(host).strip("[]") for name in ("host", "smtp_host") if (host := getattr(service, name, None))}
    for host in hosts:
        try:
            Client(policy=policy).resolve(host, 443, Deadline.after(5))
        except RefusedError as exc:
            return str(exc)
        except NoAnswerError:
            continue  # many services keep something else there than a host
    return ""


if __name__ == "__main__":
    main()
