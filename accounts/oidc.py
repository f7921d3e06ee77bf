"""The claims of an OpenID Connect provider about a person.

Authlib does discovery, PKCE, state, nonce and the checks of an ID token. This module configures it and translates its
errors. It reads ID tokens only; a claim that is not in them does not exist here.
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
from rest.errors import NotFoundError, SVOpsError, UnavailableError

logger = logging.getLogger(__name__)

# Signatures that only the provider can make. This excludes shared secrets, and `none`, which providers do list.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
LEEWAY = 60  # seconds by which the provider's clock may be off
KEPT = 3600  # seconds for which the provider's description and keys are reused, except for an unknown key
LONGEST_SUBJECT = 255


class ProviderUnavailableError(UnavailableError):
    code = "identity_provider_unavailable"


class SignInRefusedError(SVOpsError):
    """The provider refused the person, or its answer does not fit our request."""

    code = "sign_in_refused"
    http_status = HTTPStatus.FORBIDDEN


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a provider vouches for. `role` is None if the provider does not decide on roles."""

    issuer: str
    subject: str
    username: str
    name: str
    email: str
    role: Role | None


def offered(request: HttpRequest) -> dict[str, Any]:
    """Context for templates: the name of the single sign-on button, empty if single sign-on is off."""
    return {"single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else ""}


def require() -> None:
    """Raise `NotFoundError` if single sign-on is off."""
    if not settings.OIDC_ISSUER:
        raise NotFoundError("Single sign-on is off here.")


def start(request: HttpRequest, *, redirect_uri: str, next_url: str) -> str:
    """Return the URL to send the browser to. Keep the request and `next_url` in the browser's session."""
    with _translated():
        client = _provider()
        began = client.create_authorization_url(redirect_uri)
    client.save_authorize_data(request, redirect_uri=redirect_uri, next=next_url, **began)
    return str(began["url"])


def finish(request: HttpRequest) -> tuple[Claims, str]:
    """Return who came back from the provider, and the `next_url` of `start`."""
    with _translated():
        client = _provider()
        kept = client.framework.get_state_data(request.session, request.GET.get("state"))
        token = client.authorize_access_token(request, claims_options=_required(), leeway=LEEWAY)
    if "userinfo" not in token:
        raise SignInRefusedError("The identity provider sent no ID token.")
    return _claims(token["userinfo"]), kept["next"]


def verify(id_token: str) -> Claims:
    """Return the claims of an ID token.

    Raises `InvalidTokenError` unless the issuer signed it, for our client, and it is not expired.
    """
    if not id_token.isascii():
        raise InvalidTokenError("The ID token is not valid.")
    with _translated():
        checks = {"claims_options": _required(), "claims_cls": CodeIDToken, "leeway": LEEWAY}
        # No nonce: it binds a token to the browser that asked for it, and there is no browser here.
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
    """Return the library's client, with the provider's description loaded."""
    access = (settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET, settings.OIDC_SCOPES)
    client = _client(*access, int(time.monotonic() // KEPT))
    try:
        described = client.load_server_metadata()
    except (TypeError, ValueError) as exc:
        raise ProviderUnavailableError("The identity provider's discovery document is not valid.") from exc
    if described.get("issuer") != settings.OIDC_ISSUER:
        _client.cache_clear()
        raise ProviderUnavailableError("The identity provider's discovery document names another issuer.")
    listed = described.get("id_token_signing_alg_values_supported") or ["RS256"]
    described["id_token_signing_alg_values_supported"] = sorted(ALGORITHMS.intersection(listed))
    return client


@lru_cache(maxsize=1)
def _client(issuer: str, client_id: str, client_secret: str, scopes: str, period: int) -> Any:
    """Create a client for each `period`: a client never reads its metadata again."""
    return OAuth().register(
        "oidc",
        client_id=client_id,
        client_secret=client_secret or None,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": scopes, "code_challenge_method": "S256", "default_timeout": settings.OIDC_TIMEOUT},
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the library's errors into ours. Log only their kind: some texts quote outside input."""
    try:
        yield
    except requests.RequestException as exc:
        logger.warning("identity provider unavailable", extra={"error": type(exc).__name__})
        raise ProviderUnavailableError("The identity provider did not answer; try again later.") from exc
    except OAuthError as exc:
        logger.info("single sign-on refused", extra={"error": type(exc).__name__})
        raise SignInRefusedError("The identity provider did not sign you in; try again.") from exc
    except (JoseError, KeyError, TypeError, ValueError) as exc:
        # The last three: parts of the token are not JSON, or have the wrong type.
        logger.info("ID token refused", extra={"error": type(exc).__name__})
        raise InvalidTokenError("The ID token is not valid.") from exc


def _claims(claims: Mapping[str, object]) -> Claims:
    subject = claims["sub"]
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise InvalidTokenError("The ID token has no usable subject.")
    return Claims(
        issuer=settings.OIDC_ISSUER,
        subject=subject,
        username=_text(claims.get(settings.OIDC_USERNAME_CLAIM)),
        name=_text(claims.get("name"))[:150],
        email=_email(claims),
        role=_role(claims),
    )


def _text(value: object) -> str:
    return "".join(filter(str.isprintable, value)) if isinstance(value, str) else ""


def _email(claims: Mapping[str, object]) -> str:
    """Return the address, unless the provider says that it is not verified."""
    email = _text(claims.get("email"))
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email if len(email) <= 254 and claims.get("email_verified", True) is True else ""


def _role(claims: Mapping[str, object]) -> Role | None:
    """Return the highest role that a value of the role claim gives."""
    if not settings.OIDC_ROLE_CLAIM:
        return None
    value = claims.get(settings.OIDC_ROLE_CLAIM)
    values = {item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)}
    if values.intersection(settings.OIDC_ADMIN_VALUES):
        return Role.ADMIN
    return Role.USER if values.intersection(settings.OIDC_USER_VALUES) else Role(settings.OIDC_DEFAULT_ROLE)
