"""A real identity provider, Canaille, in its own process: `python -m accounts.tests.identity_provider`.

The first line of the input says what to serve; the process prints its URL. Each further line is a command and gets
one line as answer. The process ends with its input.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from typing import Any

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from canaille.backends.memory.backend import MemoryBackend
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any) -> None:
        """Print nothing: the output is for answers."""


_any_of = MemoryBackend.do_query


def _all_of(backend: MemoryBackend, model: Any, *args: Any, **conditions: Any) -> list[Any]:
    """Require all conditions. Canaille's own query requires one: for a code, any code of the same client matches."""
    found = list(_any_of(backend, model, *args, **conditions))
    for name, value in conditions.items():
        fitting = {instance.id for instance in _any_of(backend, model, **{name: value})}
        found = [instance for instance in found if instance.id in fitting]
    return found


MemoryBackend.do_query = _all_of


class Served:
    def __init__(self, config: dict[str, Any]) -> None:
        self._asked: Counter[str] = Counter()
        # The server listens first, because its description of itself contains the port.
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._app = create_app(_configuration(self.server.port, config["key"]))
        with self._app.app_context():
            self._client = _populate(config)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        self._asked[environ["PATH_INFO"]] += 1
        return self._app(environ, start_response)

    def asked(self, path: str) -> int:
        """Return how often this path was requested."""
        return self._asked[path]

    def rotate(self, key: dict[str, str]) -> None:
        """Sign with this key from now on, and drop the old one."""
        self._app.config["CANAILLE_OIDC"]["ACTIVE_JWKS"] = [key]

    def redirect_to(self, uri: str) -> None:
        """Allow this redirect URI too."""
        with self._app.app_context():
            Backend.instance.update(self._client, redirect_uris=[*self._client.redirect_uris, uri])
            Backend.instance.save(self._client)


def _configuration(port: int, key: dict[str, str]) -> dict[str, Any]:
    return {
        "SECRET_KEY": "for the tests",
        "SERVER_NAME": f"localhost:{port}",
        "PREFERRED_URL_SCHEME": "http",
        # The tests post the forms without reading them first.
        "WTF_CSRF_ENABLED": False,
        "CANAILLE": {
            "DATABASE": "memory",
            "JAVASCRIPT": False,
            "ACL": {"DEFAULT": {"PERMISSIONS": ["use_oidc"]}},
            "LOGGING": {"version": 1, "disable_existing_loggers": False},
        },
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [key], "USERINFO_MAPPING": {"PREFERRED_USERNAME": "{{ user.user_name }}"}},
    }


def _populate(config: dict[str, Any]) -> Any:
    people = {}
    for person in config["people"]:
        people[person["user_name"]] = models.User(family_name="Example", **person)
        Backend.instance.save(people[person["user_name"]])
    for name, members in config["groups"].items():
        Backend.instance.save(models.Group(display_name=name, members=[people[member] for member in members]))
    client = models.Client(
        client_id=config["client_id"],
        client_secret=config["client_secret"],
        client_name="SVOps",
        client_uri="http://127.0.0.1",  # trusted: nobody is asked for consent
        redirect_uris=config["redirect_uris"],
        grant_types=["authorization_code", "client_credentials"],
        response_types=["code"],
        scope=["openid", "profile", "email", "groups"],
        token_endpoint_auth_method="client_secret_basic",
    )
    Backend.instance.save(client)
    Backend.instance.update(client, audience=[client])
    Backend.instance.save(client)
    return client


def _say(answer: object) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def main() -> None:
    served = Served(json.loads(sys.stdin.readline()))
    server: BaseWSGIServer = served.server
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _say(f"http://localhost:{server.port}")
    for line in sys.stdin:
        what, argument = json.loads(line)
        _say(getattr(served, what)(argument))


if __name__ == "__main__":
    main()
