"""What values must be like, wherever they come from: variables of the environment, files, requests.

Each function returns the value, or raises `ValueError` with what was expected. The caller puts the name before it. What
may be a secret is not repeated.
"""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

A_HEADER = 'must be a JSON object of headers, like {"X-Team": "data"}'


def web_address(value: str, *, may_have_user: bool = False) -> str:
    """Check an address of http or https, perhaps with a path. It may hold a password."""
    parts = _split(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be like https://host/path, without ? and #")
    if "@" in parts.netloc and not may_have_user:
        raise ValueError("must be like https://host/path, without a user and a password")
    return value


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def secure_url(value: str) -> str:
    """Check an `https://` URL; `http://` is allowed only to this machine."""
    parts = _split(value)
    allowed = {"https", "http"} if parts and parts.hostname in {"localhost", "127.0.0.1", "::1"} else {"https"}
    if parts is None or parts.scheme not in allowed or not parts.hostname:
        raise ValueError("must start with https:// (http:// only to localhost)")
    return value


def headers(given: object) -> dict[str, str]:
    """Check HTTP headers that are sent with every request."""
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError(A_HEADER)
    for header, value in given.items():
        if not isinstance(header, str) or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", header):
            raise ValueError(A_HEADER)
        if not re.fullmatch(r"[\x20-\x7e]*", value.strip()):
            raise ValueError(A_HEADER)
        if header.lower() in {"authorization", "cookie"}:
            raise ValueError(f"sets {header}: what proves who SVOps is comes from AIRFLOW_AUTH")
    return {header: value.strip() for header, value in given.items()}


def file(path: str) -> str:
    """Check the path of a file that can be read."""
    try:
        Path(path).read_bytes()
    except OSError as exc:
        raise ValueError(f"cannot be read: {exc.strerror}") from exc
    return path


def authorities(path: str) -> str:
    """Check the path of a file with certificates of authorities, in PEM."""
    file(path)
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as exc:
        raise ValueError("holds no certificate in PEM") from exc
    return path


def certificate(path: str, *, key: str) -> str:
    """Check the path of a client's certificate, whose key is in the file `key`, or else in the same file."""
    file(path)
    try:
        ssl.create_default_context().load_cert_chain(path, key or None, password="")
    except ssl.SSLError as exc:
        raise ValueError(f"is no certificate in PEM that has its key, without a password, in {key or path!r}") from exc
    return path


def program(words: Sequence[str]) -> Sequence[str]:
    """Check the words of a command. Its program must be there."""
    if words and shutil.which(words[0]) is None:
        raise ValueError(f"names the program {words[0]!r}, which is not there or cannot be run")
    return words


def seconds(value: float) -> float:
    if not 0 < value < float("inf"):
        raise ValueError("must be a positive number of seconds")
    return value


def per_second(value: float) -> float:
    """Check a number of requests in a second; 0 is no limit."""
    if not (value == 0 or 0.1 <= value <= 10_000):
        raise ValueError("must be between 0.1 and 10000, or 0 for no limit")
    return value


def token(value: str) -> str:
    """Check a token that goes into a header."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must be one line of printable ASCII")
    return value


def is_installed(module: str) -> bool:
    """Return whether an optional library is there, without importing all of it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
