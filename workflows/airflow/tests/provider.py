"""A scripted identity provider: the token endpoints of all ways in, behind one real socket."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from workflows.airflow.access import Access, Command, Google, Mwaa, OAuth2, Way

from .scripted import Hold, Reply, Request, ScriptedAirflow

# Fetches what it prints, so that the provider's script is the command's too.
PROGRAM = """
import sys, urllib.request
sys.stderr.write("password=hunter2")
sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())
"""


@dataclass
class Asked:
    """What a way in has sent to the provider, in the words of that way."""

    headers: Mapping[str, str]
    body: Any


class Provider:
    """Gives `token-1`, `token-2` and so on, which the scripted Airflow knows.

    `lifetime` is that of the next tokens in seconds, None: none is said. `answer` is what it answers instead. `hold`
    makes it wait.
    """

    def __init__(self, airflow: ScriptedAirflow, server: ScriptedAirflow) -> None:
        self.asked: list[Asked] = []
        self.lifetime: float | None = 3600
        self.answer: Reply | None = None
        self.hold: Hold | None = None
        self._airflow = airflow
        self.url = server.url
        server.pages |= {
            ("POST", "/oauth2"): self._oauth2,
            ("POST", "/google"): self._google,
            ("GET", "/command"): self._command,
            ("POST", "/webtoken/prod"): self._web_token,
        }
        airflow.pages[("POST", "/pluginsv2/aws_mwaa/login")] = self._mwaa_login

    def access(self, name: str, tmp_path: Path, **more: Any) -> Access:
        return Access(base_url=self._airflow.url, way=self._way(name, tmp_path), **more)

    def _way(self, name: str, tmp_path: Path) -> Way:
        match name:
            case "oauth2":
                return OAuth2(token_url=f"{self.url}/oauth2", client_id="svops", client_secret="s3cret")
            case "google":
                return Google(credentials_file=str(self._service_account(tmp_path)))
            case "mwaa":
                return Mwaa(environment="prod", region="eu-west-1")
            case _:
                program = tmp_path / "program.py"
                program.write_text(PROGRAM)
                return Command(argv=(sys.executable, str(program), f"{self.url}/command"))

    def _service_account(self, tmp_path: Path) -> Path:
        file = tmp_path / "service_account.json"
        account = {"type": "service_account", "client_email": "svops@example.iam", "private_key_id": "1"}
        file.write_text(json.dumps({**account, "private_key": _key(), "token_uri": f"{self.url}/google"}))
        return file

    def _token(self, request: Request) -> Reply | str:
        self.asked.append(Asked(request.headers, request.body))
        if self.hold:
            self.hold.arrived.set()
            self.hold.released.wait(30)
        if self.answer:
            return self.answer
        self._airflow.logins += 1
        return f"token-{self._airflow.logins}"

    def _oauth2(self, request: Request) -> Reply:
        token = self._token(request)
        if isinstance(token, Reply):
            return token
        lifetime = {} if self.lifetime is None else {"expires_in": self.lifetime}
        return Reply(200, {"access_token": token, "token_type": "Bearer", **lifetime})

    def _google(self, request: Request) -> Reply:
        return self._oauth2(request)

    def _command(self, request: Request) -> Reply:
        token = self._token(request)
        if isinstance(token, Reply):
            return token
        return Reply(200, token.encode() if self.lifetime is None else {"token": token, "expires_in": self.lifetime})

    def _web_token(self, request: Request) -> Reply:
        token = self._token(request)
        if isinstance(token, Reply):
            return token
        return Reply(200, {"WebToken": f"web-{token}", "WebServerHostname": urlsplit(self._airflow.url).hostname})

    def _mwaa_login(self, request: Request) -> Reply:
        claims = {} if self.lifetime is None else {"exp": int(time.time() + self.lifetime)}
        token = f"{_part({'alg': 'none'})}.{_part(claims)}.{request.body['token'].removeprefix('web-')}"
        return Reply(200, {}, {"Set-Cookie": f"_token={token}; Path=/; Secure; HttpOnly"})


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@cache
def _key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
