"""The identity provider of the tests: its process, the people in it, and how they sign in there."""

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

from svops.local.home import REPOSITORY

CLIENT_ID, CLIENT_SECRET = "svops", "a secret of the client, and long enough"
CALLBACK = "http://testserver/login/oidc/callback"
PASSWORD = "correct horse battery"
PEOPLE = {"grace": "Grace Hopper", "edsger": "Edsger Dijkstra"}
GROUPS = {"operators": ["grace"]}


class Provider:
    """Runs until `stop`, or until this process is gone."""

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
        self.issuer: str = self._tell(
            {"key": self.key.as_dict(private=True), "people": people, "groups": GROUPS, **client}
        )

    def _tell(self, what: object) -> Any:
        self._input.write(f"{json.dumps(what)}\n")
        self._input.flush()
        return json.loads(self._output.readline())

    def stop(self) -> None:
        self._input.close()
        self._process.wait(timeout=30)
        self._output.close()

    def asked(self, path: str) -> int:
        """How often it was asked for this path."""
        return int(self._tell(["asked", path]))

    def rotate(self) -> None:
        """From now on it signs with a new key alone."""
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self._tell(["rotate", self.key.as_dict(private=True)])

    def redirect_to(self, uri: str) -> None:
        self._tell(["redirect_to", uri])

    def sign_in(self, username: str, url: str) -> str:
        """Do what a person would who was sent to `url`; where they are sent from there."""
        with requests.Session() as browser:
            asked = browser.get(url, timeout=30)
            asked = browser.post(asked.url, {"login": username}, timeout=30)
            answer = browser.post(asked.url, {"password": PASSWORD}, allow_redirects=False, timeout=30)
            while (place := urljoin(answer.url, answer.headers["Location"])).startswith(self.issuer):
                answer = browser.get(place, allow_redirects=False, timeout=30)
        return place

    def id_token(self, username: str) -> str:
        """A token as another program of the same client would get it."""
        query = f"client_id={CLIENT_ID}&response_type=code&scope=openid+profile+email+groups&nonce=n&state=s"
        back = self.sign_in(username, f"{self.issuer}/oauth/authorize?{query}&redirect_uri={CALLBACK}")
        code = re.findall("code=([^&]+)", back)[0]
        wanted = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        place, credentials = f"{self.issuer}/oauth/token", (CLIENT_ID, CLIENT_SECRET)
        answer = requests.post(place, wanted, auth=credentials, timeout=30)
        assert answer.ok, answer.text
        return str(answer.json()["id_token"])

    def claims(self, **others: Any) -> dict[str, Any]:
        """Those of a good token; None takes one out."""
        now = int(time.time())
        good = {
            "iss": self.issuer, "sub": "ada-7", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "preferred_username": "ada", "name": "Ada Lovelace", "email": "ada@example.com",
        }  # fmt: skip
        return {name: value for name, value in (good | others).items() if value is not None}

    def signed(self, **others: Any) -> str:
        """A token with the provider's own signature."""
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, self.claims(**others), self.key)
