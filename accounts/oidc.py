"""What an OpenID Connect provider says of somebody.

Discovery, PKCE, state, nonce and the checks of an ID token are Authlib's; here is what it is told, and what becomes of
its errors. ID tokens alone are read, whichever way they come: what is in none of them does not exist here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import requests
from authlib.integrations.django_client import OAuth, OAuthError
from authlib.oidc.core import CodeIDToken
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest
from joserfc.errors import JoseError

from accounts.models import Role
from accounts.tokens import InvalidTokenError
from svops.errors import NotFoundError, SVOpsError, UnavailableError

logger = logging.getLogger(__name__)

# Signatures that only the provider can make. A secret that both sides know is none, and providers do list `none`.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
LEEWAY = 60  # seconds by which the provider's clock may be off
KEPT = 3600  # seconds for which the provider's description and keys are not read again, but for an unknown key
LONGEST_SUBJECT = 255


class ProviderUnavailableError(UnavailableError):
    code = "identity_provider_unavailable"


class SignInRefusedError(SVOpsError):
    """The provider did not let them in, or what came back is not what we had asked for."""

    code = "sign_in_refused"
    http_status = HTTPStatus.FORBIDDEN


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a provider vouches for. `role` is None where roles are not its business."""

    issuer: str
    subject: str
    username: str
    name: str
    email: str
    role: Role | None


def offered(request: HttpRequest) -> dict[str, Any]:
    """Context of templates: the name under which single sign-on is offered, empty where it is off."""
    return {"single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else ""}


def require() -> None:
    """Raise `NotFoundError` where there is no single sign-on."""
    if not settings.OIDC_ISSUER:
        raise NotFoundError("There is no single sign-on here.")


def start(request: HttpRequest, *, redirect_uri: str, next_url: str) -> str:
    """Where to send the browser; that it went there, and where it wants to, is kept in its session."""
    with _translated():
        client = _provider()
        began = client.create_authorization_url(redirect_uri)
    client.save_authorize_data(request, redirect_uri=redirect_uri, next=next_url, **began)
    return str(began["url"])


def finish(request: HttpRequest) -> tuple[Claims, str]:
    """Who came back from the provider, and where they want to."""
    with _translated():
        client = _provider()
        kept = client.framework.get_state_data(request.session, request.GET.get("state"))
        token = client.authorize_access_token(request, claims_options=_required(), leeway=LEEWAY)
    if "userinfo" not in token:
        raise SignInRefusedError("The identity provider sent no ID token.")
    return _claims(token["userinfo"]), kept["next"]


def verify(id_token: str) -> Claims:
    """Who the ID token is about: signed by the issuer, for our client, in force; else `InvalidTokenError`."""
    if not id_token.isascii():
        raise InvalidTokenError("The ID token is not valid.")
    with _translated():
        checks = {"claims_options": _required(), "claims_cls": CodeIDToken, "leeway": LEEWAY}
        # No nonce: it binds a token to the browser that asked for it, and here is none.
        return _claims(_provider().parse_id_token({"id_token": id_token}, nonce=None, **checks))


def _required() -> dict[str, Any]:
    return {
        "iss": {"essential": True, "value": settings.OIDC_ISSUER},
        "aud": {"essential": True, "value": settings.OIDC_CLIENT_ID},
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iat": {"essential": True},
    }


def _provider() -> Any:
    """The library's client, with the provider's description of itself in it."""
    access = (settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET, settings.OIDC_SCOPES)
    client = _client(*access, int(time.monotonic() // KEPT))
    try:
        described = client.load_server_metadata()
    except (TypeError, ValueError) as exc:
        raise ProviderUnavailableError("The identity provider does not describe itself.") from exc
    if described.get("issuer") != settings.OIDC_ISSUER:
        _client.cache_clear()
        raise ProviderUnavailableError("The identity provider does not describe itself as the issuer that was set.")
    listed = described.get("id_token_signing_alg_values_supported") or ["RS256"]
    described["id_token_signing_alg_values_supported"] = sorted(ALGORITHMS.intersection(listed))
    return client


@lru_cache(maxsize=1)
def _client(issuer: str, client_id: str, client_secret: str, scopes: str, period: int) -> Any:
    """A new one each `period`: it keeps what it has read for as long as it lives."""
    return OAuth().register(
        "oidc",
        client_id=client_id,
        client_secret=client_secret or None,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": scopes, "code_challenge_method": "S256", "default_timeout": settings.OIDC_TIMEOUT},
    )


@contextmanager
def _translated() -> Iterator[None]:
    """The library's errors as ours. What they say is logged by kind alone: some quote what came from outside."""
    try:
        yield
    except requests.RequestException as exc:
        logger.warning("identity provider unavailable", extra={"error": type(exc).__name__})
        raise ProviderUnavailableError("The identity provider did not answer; try again later.") from exc
    except OAuthError as exc:
        logger.info("single sign-on refused", extra={"error": type(exc).__name__})
        raise SignInRefusedError("The identity provider did not sign you in; try again.") from exc
    except (JoseError, KeyError, TypeError, ValueError) as exc:
        # The last three: parts of a token that are no JSON, or of another type than they have to be.
        logger.info("ID token refused", extra={"error": type(exc).__name__})
        raise InvalidTokenError("The ID token is not valid.") from exc


def _claims(said: Mapping[str, Any]) -> Claims:
    subject = said["sub"]
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise InvalidTokenError("The ID token has no usable subject.")
    return Claims(
        issuer=settings.OIDC_ISSUER,
        subject=subject,
        username=_text(said.get(settings.OIDC_USERNAME_CLAIM)),
        name=_text(said.get("name"))[:150],
        email=_email(said),
        role=_role(said),
    )


def _text(value: object) -> str:
    return "".join(filter(str.isprintable, value)) if isinstance(value, str) else ""


def _email(said: Mapping[str, Any]) -> str:
    """An address that the provider does not say to be unverified."""
    email = _text(said.get("email"))
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email if len(email) <= 254 and said.get("email_verified", True) is True else ""


def _role(said: Mapping[str, Any]) -> Role | None:
    """The highest role that a value of the role claim gives."""
    if not settings.OIDC_ROLE_CLAIM:
        return None
    value = said.get(settings.OIDC_ROLE_CLAIM)
    values = {item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)}
    if values.intersection(settings.OIDC_ADMIN_VALUES):
        return Role.ADMIN
    return Role.USER if values.intersection(settings.OIDC_USER_VALUES) else Role(settings.OIDC_DEFAULT_ROLE)
