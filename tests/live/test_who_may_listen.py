"""A stream ends when its reader loses access, and nobody sees events that they are not allowed to see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from accounts import services as accounts
from accounts.identity import Scope
from accounts.models import Role, User
from accounts.tokens import new_access_token
from tests.live import log
from tests.live.conftest import new_run, new_user, new_workflow, token_of
from tests.live.parts import Redis, Web, Writer, until
from tests.live.readers import Loop, PollingReader, Reader, SSEReader, WebSocketReader, have, reading
from workflows import services
from workflows.eventlog import publication
from workflows.models import Run, Visibility, Workflow

PUSHED = [WebSocketReader, SSEReader]
PASSWORD = "a long pass phrase"


@pytest.fixture
def private(ada: User) -> Workflow:
    return new_workflow(ada, visibility=Visibility.PRIVATE)


@pytest.fixture
def secret_run(private: Workflow) -> Run:
    return new_run(private)


@pytest.fixture(scope="module")
def web(directory: Path) -> Iterator[Web]:
    """A web process that checks access every half second. Its own access tokens expire after two seconds."""
    env = {"ACCESS_TOKEN_SECONDS": "2", "STREAM_HEARTBEAT": "0.5", "STREAM_AUTH_TIMEOUT": "1"}
    with Web(directory, **env) as web:
        yield web


def ends_with(loop: Loop, reader: Reader, code: int, *, within: float = 15) -> None:
    until(lambda: reader.is_done, within=within, or_say=lambda: reader.describe([]))
    assert reader.closes == [code]


@pytest.mark.parametrize("kind", PUSHED)
def test_a_stream_ends_with_4401_when_its_token_expires(
    web: Web, loop: Loop, kind: type[Reader], django_user_model: type[User]
) -> None:
    user = django_user_model.objects.create_user(f"short-{kind.__name__}", password=PASSWORD)
    login = {"username": user.username, "password": PASSWORD}
    answer = requests.post(f"{web.url}/api/v1/auth/login", json=login, timeout=20).json()
    assert answer["expires_in"] == 2
    reader = kind(bases=[web.url], token=answer["access_token"], cursor=publication.head())

    with reading(loop, [reader]):
        ends_with(loop, reader, 4401)

    assert reader.connections == 1


@pytest.mark.parametrize("kind", PUSHED)
def test_a_stream_ends_with_4401_when_its_user_is_deactivated(
    web: Web, loop: Loop, admin: User, ada: User, kind: type[Reader]
) -> None:
    reader = kind(bases=[web.url], token=token_of(ada), cursor=publication.head())
    with reading(loop, [reader]):
        accounts.deactivate(user=ada)

        ends_with(loop, reader, 4401)


@pytest.mark.parametrize("kind", PUSHED)
def test_a_stream_ends_with_4401_when_its_user_signs_out_everywhere(
    web: Web, loop: Loop, ada: User, kind: type[Reader]
) -> None:
    reader = kind(bases=[web.url], token=token_of(ada), cursor=publication.head())
    with reading(loop, [reader]):
        accounts.sign_out_everywhere(user=ada)

        ends_with(loop, reader, 4401)


@pytest.mark.parametrize(("kind", "path"), [(WebSocketReader, "/user/{}"), (SSEReader, "?user={}")])
def test_a_stream_of_another_user_ends_with_4403_when_its_reader_is_no_longer_admin(
    web: Web, loop: Loop, admin: User, ada: User, kind: type[Reader], path: str
) -> None:
    new_user(Role.ADMIN)
    reader = kind(bases=[web.url], token=token_of(admin), cursor=publication.head(), path=path.format(ada.pk))
    with reading(loop, [reader]):
        accounts.change_role(user=admin, role=Role.USER)

        ends_with(loop, reader, 4403)


@pytest.mark.parametrize(("kind", "path"), [(WebSocketReader, "/workflow/{}"), (SSEReader, "?workflow={}")])
def test_a_stream_of_a_workflow_ends_with_4403_when_the_workflow_becomes_private(
    web: Web, loop: Loop, ada: User, workflow: Workflow, kind: type[Reader], path: str
) -> None:
    token, path = token_of(new_user()), path.format(workflow.pk)
    reader = kind(bases=[web.url], token=token, cursor=publication.head(), path=path)
    with reading(loop, [reader]):
        services.update_workflow(workflow=workflow, actor=ada, visibility=Visibility.PRIVATE)

        ends_with(loop, reader, 4403)


@pytest.mark.parametrize("kind", PUSHED)
def test_a_stream_of_everything_loses_a_workflow_that_becomes_private_and_goes_on(
    web: Web, loop: Loop, ada: User, workflow: Workflow, run: Run, start: int, kind: type[Reader]
) -> None:
    other = new_run(new_workflow(ada))
    reader = kind(bases=[web.url], token=token_of(new_user()), cursor=start)
    with reading(loop, [reader]):
        log.append(run, 2)
        have([reader], log.ids_after(start), within=10)
        services.update_workflow(workflow=workflow, actor=ada, visibility=Visibility.PRIVATE)
        log.append(run, 2)
        log.append(other, 2)

        have([reader], [*range(start + 1, start + 3), *range(start + 5, start + 7)], within=10)


def test_a_right_revoked_while_redis_is_away_is_revoked_within_a_heartbeat(
    directory: Path, loop: Loop, ada: User, workflow: Workflow, run: Run, start: int
) -> None:
    redis = Redis(directory / "apart")
    reader = WebSocketReader(bases=[], token=token_of(new_user()), cursor=start)
    with (
        redis,
        Web(directory, REDIS_URL=redis.url, STREAM_HEARTBEAT="0.5") as web,
        Writer(REDIS_URL=redis.url) as writer,
    ):
        reader.bases = [web.url]
        with reading(loop, [reader]):
            writer.append(run, 1)
            have([reader], [start + 1], within=15)
            # The wake-up of the change goes to the Redis of the tests, not to that of this web process.
            services.update_workflow(workflow=workflow, actor=ada, visibility=Visibility.PRIVATE)
            beats = len(reader.frames)
            until(lambda: len(reader.frames) > beats + 1, within=10)
            writer.append(run, 1)
            writer.append(new_run(new_workflow(ada)), 1)

            have([reader], [start + 1, start + 3], within=15)


def test_a_stranger_sees_nothing_of_a_private_workflow_on_any_transport(
    web: Web, loop: Loop, ada: User, workflow: Workflow, run: Run, secret_run: Run, start: int
) -> None:
    stranger = new_user()
    token = token_of(stranger)
    strangers: list[Reader] = [
        WebSocketReader(bases=[web.url], token=token, cursor=start),
        SSEReader(bases=[web.url], token=token, cursor=start),
        SSEReader(bases=[web.url], token=token, cursor=start, path=f"?run={secret_run.pk}"),
        PollingReader(bases=[web.url], token=token, cursor=start),
        PollingReader(bases=[web.url], token=token, cursor=start, path=f"&run={secret_run.pk}"),
    ]
    owner = WebSocketReader(bases=[web.url], token=token_of(ada), cursor=start)
    with reading(loop, [*strangers, owner]):
        log.append(secret_run, 3)
        log.append(run, 1)

        have([owner], list(range(start + 1, start + 5)), within=10)
        have([strangers[0], strangers[1], strangers[3]], [start + 4], within=10)

    assert [reader.ids for reader in (strangers[2], strangers[4])] == [[], []]
    for path in (f"/workflow/{secret_run.workflow_id}", f"/user/{stranger.pk}/workflow/{secret_run.workflow_id}"):
        assert closed_with(loop, web, path, token) == 4404
    assert closed_with(loop, web, f"/user/{ada.pk}", token) == 4403
    assert closed_with(loop, web, f"/user/{ada.pk}/workflow/{secret_run.workflow_id}", token) == 4403


def test_a_stranger_can_neither_subscribe_to_a_private_workflow_nor_ask_for_its_runs(
    web: Web, loop: Loop, private: Workflow, secret_run: Run
) -> None:
    reader = WebSocketReader(bases=[web.url], token=token_of(new_user()), cursor=0)
    asked: list[dict[str, Any]] = [
        {"type": "subscribe", "workflow_id": private.pk},
        {"type": "subscribe", "run_id": str(secret_run.pk)},
        {"type": "get_status", "run_id": str(secret_run.pk)},
    ]

    answers = loop.run(_answers(reader, web.url, asked))

    assert [answer["type"] for answer in answers] == ["error"] * 3
    assert [answer["code"] for answer in answers] == ["bad_message"] * 3


async def _answers(reader: WebSocketReader, base: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    async with reader.connected(base) as connection:
        assert json.loads(await connection.recv())["type"] == "connection.ready"
        answers = []
        for message in messages:
            await connection.send(json.dumps(message))
            while (answer := json.loads(await connection.recv()))["type"] == "heartbeat":
                pass
            answers.append(answer)
        return answers


def closed_with(loop: Loop, web: Web, path: str, token: str) -> int:
    """Return the code with which a WebSocket is closed at once."""
    reader = WebSocketReader(bases=[web.url], token=token, cursor=0, path=path)
    loop.run(reader.run(), within=15)
    return reader.closes[0]


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_a_client_without_valid_credentials_is_closed_with_4401(web: Web, loop: Loop, token: str) -> None:
    assert closed_with(loop, web, "", token) == 4401


@pytest.mark.parametrize("path", ["/nowhere", "/workflow/987654", "/user/x"])
def test_an_unknown_stream_is_closed_with_4404(web: Web, loop: Loop, ada: User, path: str) -> None:
    assert closed_with(loop, web, path, token_of(ada)) == 4404


@pytest.mark.parametrize("path", ["", "/stream"])
def test_a_token_without_the_right_to_read_is_refused_with_403(web: Web, ada: User, path: str) -> None:
    token = new_access_token(sign_in_of(ada))
    token["scopes"] = [Scope.RUN_TRIGGER]
    token.set_exp(lifetime=timedelta(minutes=1))
    headers = {"Authorization": f"Bearer {token}"}

    answer = requests.get(f"{web.url}/api/v1/events{path}", headers=headers, timeout=20)

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


def sign_in_of(user: User) -> Any:
    accounts.sign_in(user=user)
    return user.sign_ins.get()
