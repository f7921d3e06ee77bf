"""What describes the way to one Airflow: where it is, who SVOps is there, and what lies between.

All of it is one frozen value, so that it can be kept, compared and handed on. Secrets are not in its `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# The name of each way as `AIRFLOW_AUTH` gives it. `ways` has what each of them does.
PASSWORD, TOKEN, OAUTH2, GOOGLE, MWAA, COMMAND = "password", "token", "oauth2", "google", "mwaa", "command"
NAMES = (PASSWORD, TOKEN, OAUTH2, GOOGLE, MWAA, COMMAND)

# The methods of MWAA.
WEB_TOKEN, INVOKE = "web_token", "invoke_rest_api"


@dataclass(frozen=True, kw_only=True)
class Password:
    """`/auth/token` of Airflow 3; the sign-in form, or basic authentication, of 2.x."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class StaticToken:
    """A bearer token: `value`, or what the file holds. Exactly one of the two is given."""

    value: str = field(default="", repr=False)
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class OAuth2:
    """Client credentials at a token endpoint. `method` says where the client's secret goes, as RFC 7591 names it.

    With the method `airflow` they go to Airflow's own `/auth/token`, as the Keycloak auth manager takes them.
    """

    token_url: str = ""
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    method: str = "client_secret_basic"


@dataclass(frozen=True, kw_only=True)
class Google:
    """An access token of Google, or, with an audience, an ID token for it.

    The file is the key of a service account. Without it, the library finds the credentials itself: workload identity,
    a metadata server, gcloud.
    """

    credentials_file: str = ""
    audience: str = ""


@dataclass(frozen=True, kw_only=True)
class Mwaa:
    """An environment of Amazon MWAA. Without a region, the library finds it.

    `method` says how Airflow is asked: at its web server with a session of its pages, or by AWS's `InvokeRestApi`.
    """

    environment: str
    region: str = ""
    method: str = WEB_TOKEN


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program that prints a token. It sees the variables `environment` beside those that every program needs."""

    argv: tuple[str, ...] = field(repr=False)
    environment: tuple[str, ...] = ()


Way = Password | StaticToken | OAuth2 | Google | Mwaa | Command
_KINDS = dict(zip((Password, StaticToken, OAuth2, Google, Mwaa, Command), NAMES, strict=True))


def is_invoked(way: Way) -> bool:
    """Return whether Airflow is asked by AWS, which checks who we are itself."""
    return isinstance(way, Mwaa) and way.method == INVOKE


def kind_of(way: Way) -> str:
    """Return the name of the way."""
    return _KINDS[type(way)]


@dataclass(frozen=True, kw_only=True)
class Access:
    base_url: str
    way: Way
    # Sent with every request to Airflow.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    # Trusted beside the public certificate authorities, by Airflow's address and by a token endpoint's.
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    proxy: str = field(default="", repr=False)
    # Of all processes together; 0 is no limit.
    requests_per_second: float = 0.0
    # Seconds for one request for credentials.
    token_timeout: float = 10.0
