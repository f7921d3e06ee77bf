"""The identity provider of the tests: its process, its people, and how they sign in there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import IO, Any, cast
from urllib.parse import urljoin

import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

from runner.home import REPOSITORY
from runner.testing import ended_by_its_input

CLIENT_ID, CLIENT_SECRET = "svops", "a secret of the client, and long enough"
CALLBACK = "http://testserver/login/oidc/callback"
PASSWORD = "correct horse battery"
PEOPLE = {"grace": "Grace Hopper", "edsger": "Edsger Dijkstra"}
GROUPS = {"operators": ["grace"]}


class Provider:
    """Runs until `stop`, or until this process ends."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "accounts.tests.identity_provider"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._input, self._output = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        people = [
            {"user_name": name, "formatted_name": full, "password": PASSWORD, "emails": [f"{name}@example.com"]}
            for name, full in PEOPLE.items()
        ]
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [CALLBACK]}
        self.issuer: str = self._command(
            {"key": self.key.as_dict(private=True), "people": people, "groups": GROUPS, **client}
        )

    def _command(self, what: object) -> Any:
        self._input.write(f"{json.dumps(what)}\n")
        self._input.flush()
        return json.loads(self._output.readline())

    def stop(self) -> None:
        ended_by_its_input(self._process)

    def asked(self, path: str) -> int:
        """Return how often this path was requested."""
        return int(self._command(["asked", path]))

    def rotate(self) -> None:
        """Sign only with a new key from now on."""
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self._command(["rotate", self.key.as_dict(private=True)])

    def redirect_to(self, uri: str) -> None:
        self._command(["redirect_to", uri])

    def sign_in(self, username: str, url: str) -> str:
        """Sign in like a person who was sent to `url`. Return the URL that the provider redirects them to."""
        with requests.Session() as browser:
            asked = browser.get(url, timeout=30)
            asked = browser.post(asked.url, {"login": username}, timeout=30)
            answer = browser.post(asked.url, {"password": PASSWORD}, allow_redirects=False, timeout=30)
            while (place := urljoin(answer.url, answer.headers["Location"])).startswith(self.issuer):
                answer = browser.get(place, allow_redirects=False, timeout=30)
        return place

    def id_token(self, username: str) -> str:
        """Return a token as another program of the same client gets it."""
        query = f"client_id={CLIENT_ID}&response_type=code&scope=openid+profile+email+groups&nonce=n&state=s"
        back = self.sign_in(username, f"{self.issuer}/oauth/authorize?{query}&redirect_uri={CALLBACK}")
        code = re.findall("code=([^&]+)", back)[0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        place, credentials = f"{self.issuer}/oauth/token", (CLIENT_ID, CLIENT_SECRET)
        answer = requests.post(place, form, auth=credentials, timeout=30)
        assert answer.ok, answer.text
        return str(answer.json()["id_token"])

    def claims(self, **others: Any) -> dict[str, Any]:
        """Return the claims of a valid token, with changes; None removes a claim."""
        now = int(time.time())
        good = {
            "iss": self.issuer, "sub": "ada-7", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "preferred_username": "ada", "name": "Ada Lovelace", "email": "ada@example.com",
        }  # fmt: skip
        return {name: value for name, value in (good | others).items() if value is not None}

    def signed(self, **others: Any) -> str:
        """Return a token with the provider's own signature."""
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, self.claims(**others), self.key)
