"""Encryption at rest. The first of `SECRET_KEYS` encrypts and each of them decrypts, so that keys can be rotated."""

from __future__ import annotations

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from rest.errors import SVOpsError


class UnsealableError(SVOpsError):
    """The stored value was encrypted with a key that is no longer among `SECRET_KEYS`."""

    code = "unsealable"


def seal(text: str) -> str:
    return _box(tuple(settings.SECRET_KEYS)).encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises `UnsealableError`."""
    try:
        return _box(tuple(settings.SECRET_KEYS)).decrypt(sealed.encode()).decode()
    except InvalidToken as exc:
        raise UnsealableError("It was encrypted with a key that is no longer among SECRET_KEYS.") from exc


@lru_cache(maxsize=4)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_derived(key)) for key in keys])


def _derived(key: str) -> bytes:
    # Derive a separate key: the key that signs sessions must not also encrypt.
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"svops notifications at rest")
    return base64.urlsafe_b64encode(kdf.derive(key.encode()))
