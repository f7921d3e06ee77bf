"""Whatever happens to the connection, a client ends with exactly the log of its run."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from clients.python.tests.conftest import PASSWORD, Cuts, new_run
from svops_client import AsyncClient, Client, NotFoundError, WaitTimeoutError
from svops_client.events import TaskStarted, WorkflowCompleted, WorkflowFailed
from tests.live import log
from tests.live.parts import Web, until
from workflows.eventlog import events as catalogue
from workflows.models import Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState


def record(run: Run, data: catalogue.EventData) -> None:
    with transaction.atomic():
        catalogue.record(data, now=timezone.now(), run=Run.objects.get(pk=run.pk))


def end(run: Run, state: RunState) -> None:
    """Let the run end, as the log and the run itself show it."""
    Run.objects.filter(pk=run.pk).update(state=state)
    common: Any = {"airflow": DEFAULT, "state": state, "attempt": 1, "duration_s": 1.5}
    if state == RunState.SUCCESS:
        record(run, catalogue.WorkflowCompleted(**common))
    else:
        record(run, catalogue.WorkflowFailed(**common, reason="load failed", failed_tasks=["load"]))


def retry(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(state=RunState.QUEUED)
    record(
        run,
        catalogue.WorkflowRetried(airflow=DEFAULT, state=RunState.QUEUED, attempt=2, mode="all", note="", by="ada"),
    )


def ids_of(run: Run) -> list[int]:
    return log.ids_after(0, [run])


Follower = Callable[[str], list[int]]


def by_sign_in(run: Run) -> Follower:
    def follow(url: str) -> list[int]:
        with Client(url, username="ada", password=PASSWORD) as svops:
            return [event.id for event in svops.run(str(run.pk)).follow()]

    return follow


def by_ticket(run: Run, issuer: Client) -> Follower:
    """A ticket lives for two seconds; the next one comes from the product's own back end."""

    def follow(url: str) -> list[int]:
        with Client(url, ticket=lambda: issuer.run(str(run.pk)).ticket("view", ttl=2).ticket) as svops:
            return [event.id for event in svops.run(str(run.pk), workflow_id=run.workflow_id).follow()]

    return follow


def awaiting(run: Run) -> Follower:
    async def collect(url: str) -> list[int]:
        async with AsyncClient(url, username="ada", password=PASSWORD) as svops:
            found = await svops.run(str(run.pk))
            return [event.id async for event in found.follow()]

    return lambda url: asyncio.run(collect(url))


def polling(run: Run, key: str) -> Follower:
    def follow(url: str) -> list[int]:
        with Client(url, api_key=key, live=False, poll_pause=0.2) as svops:
            return [event.id for event in svops.run(str(run.pk)).follow()]

    return follow


def test_clients_that_are_cut_while_their_tokens_end_have_exactly_the_log(
    web: Web, ada: User, svops: Client, api_key: str, run: Run, pytestconfig: pytest.Config
) -> None:
    seed = int(os.environ.get("SVOPS_TEST_SEED") or secrets.randbelow(10**6))
    print(f"SVOPS_TEST_SEED={seed}")  # noqa: T201 - shown when the test fails, to run it again
    dice = random.Random(seed)  # noqa: S311 - chance that can be repeated
    seconds, longest_pause = (120.0, 5.0) if pytestconfig.getoption("long") else (8.0, 1.2)
    other = new_run(run.workflow)
    log.append(run, 20)

    with Cuts(web.port, _pauses(dice, longest_pause)) as cuts, ThreadPoolExecutor() as threads:
        followers = [by_sign_in(run), by_ticket(run, svops), awaiting(run), polling(run, api_key)]
        jobs = [threads.submit(follow, cuts.url) for follow in followers]
        _write(run, other, dice, seconds)
        end(run, RunState.SUCCESS)
        expected = ids_of(run)
        found = [job.result(60) for job in jobs]

    assert cuts.count >= seconds / longest_pause
    assert found == [expected] * len(followers)


def _pauses(dice: random.Random, longest: float) -> Iterator[float]:
    while True:
        yield dice.uniform(0.3, longest)


def _write(run: Run, other: Run, dice: random.Random, seconds: float) -> None:
    """Append events of both runs for so long, in bursts."""
    ends_at = time.monotonic() + seconds
    for burst in itertools.count():
        log.append(run, dice.randint(1, 40))
        log.append(other, dice.randint(1, 40))
        if time.monotonic() > ends_at:
            return
        time.sleep(dice.uniform(0.0, 0.2 if burst % 7 else 1.0))


def test_events_are_of_their_own_classes_with_typed_data(svops: Client, run: Run) -> None:
    log.append(run, 1)
    end(run, RunState.FAILED)

    [started, failed] = svops.run(str(run.pk)).follow()

    assert isinstance(started, TaskStarted)
    assert (started.task, started.data.try_number, started.run_id) == ("step_1", 1, str(run.pk))
    assert isinstance(failed, WorkflowFailed)
    assert (failed.data.failed_tasks, failed.data.duration_s) == (["load"], 1.5)
    assert [one.timestamp for one in (started, failed)] == list(
        Event.objects.filter(run=run).order_by("seq").values_list("timestamp", flat=True)
    )


def test_following_goes_on_after_a_cursor(svops: Client, run: Run) -> None:
    log.append(run, 5)
    end(run, RunState.SUCCESS)
    middle = ids_of(run)[2]

    assert [event.id for event in svops.run(str(run.pk)).follow(after=middle)] == ids_of(run)[3:]


def test_a_run_that_was_retried_is_followed_to_the_end_of_its_last_attempt(svops: Client, run: Run) -> None:
    log.append(run, 2)
    end(run, RunState.FAILED)
    retry(run)

    with ThreadPoolExecutor() as threads:
        job = threads.submit(lambda: list(svops.run(str(run.pk)).follow()))
        _wait_for_a_stream(job)
        end(run, RunState.SUCCESS)
        found = job.result(20)

    assert [event.id for event in found] == ids_of(run)
    assert isinstance(found[-1], WorkflowCompleted)


def _wait_for_a_stream(job: Future[Any]) -> None:
    """Let the follower read what there is. If it ended at the first end, it would be done by then."""
    deadline = time.monotonic() + 1
    until(lambda: job.done() or time.monotonic() > deadline, within=5)
    assert not job.done()


def test_waiting_returns_the_run_at_its_end(svops: Client, run: Run) -> None:
    log.append(run, 1)
    with ThreadPoolExecutor() as threads:
        job = threads.submit(lambda: svops.run(str(run.pk)).wait(timeout=20))
        _wait_for_a_stream(job)
        end(run, RunState.FAILED)
        ended = job.result(20)

    assert (ended.state, ended.has_ended) == ("failed", True)


def test_waiting_longer_than_the_timeout_raises_and_the_run_goes_on(svops: Client, run: Run) -> None:
    log.append(run, 1)

    with pytest.raises(WaitTimeoutError):
        svops.run(str(run.pk)).wait(timeout=0.5)

    assert Run.objects.get(pk=run.pk).state == RunState.QUEUED


def test_events_of_all_runs_are_followed_from_now_on(svops: Client, web: Web, nightly: Workflow, run: Run) -> None:
    log.append(run, 3)
    before = ids_of(run)[-1]
    other = new_run(nightly)

    with ThreadPoolExecutor() as threads:
        stream = svops.events(workflow=nightly.pk, after=before, follow=True)
        job = threads.submit(lambda: [event.id for event in itertools.islice(stream, 4)])
        log.append(other, 2)
        log.append(run, 2)
        found = job.result(20)

    assert found == log.ids_after(before)


def test_the_log_is_read_up_to_now_without_following(svops: Client, run: Run) -> None:
    log.append(run, 3)

    found = list(svops.events(run=str(run.pk), types=["task.started"]))

    assert [event.id for event in found] == ids_of(run)


def test_a_run_that_nobody_knows_is_not_found(svops: Client) -> None:
    with pytest.raises(NotFoundError) as refused:
        svops.run("0b5e7a52-6f0e-4c53-9d0a-6a7f7a7d2f11")

    assert (refused.value.status, refused.value.code) == (404, "not_found")
    assert refused.value.request_id
