"""The client that awaits. Made from `client.py` by `make_async.py`; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Literal

import httpx

from svops_client._async import AsyncDriver
from svops_client._core import operations as ops
from svops_client._core.arguments import credentials_of, url_of
from svops_client._core.credentials import Source
from svops_client._core.platform import Platform
from svops_client._core.reader import Wanted
from svops_client._core.views import RunView
from svops_client.envelope import Event
from svops_client.models import (
    Explanation,
    LogLine,
    Me,
    Reference,
    Result,
    RunInfo,
    TaskInfo,
    TaskRef,
    Ticket,
    WorkflowInfo,
)

RetryMode = Literal["failed", "all", "from_task"]


class AsyncClient:
    """A client of SVOps. For one event loop.

    Give one of `api_key`, `token`, `ticket`, or `username` and `password`; by default, SVOPS_API_KEY counts. Key, token
    and ticket may be functions: they are called again when the one before is refused. `base_url` is by default
    SVOPS_URL.

    `retry_for`: seconds that a request is tried again. `patience`: seconds that a stream may be away until it is
    given up. `live=False` polls every `poll_pause` seconds instead of using a WebSocket.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: Source | None = None,
        token: Source | None = None,
        ticket: Source | None = None,
        username: str | None = None,
        password: str | None = None,
        code: str = "",
        timeout: float = 30.0,
        retry_for: float = 60.0,
        patience: float = 300.0,
        live: bool = True,
        poll_pause: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        credentials = credentials_of(
            api_key=api_key, token=token, ticket=ticket, username=username, password=password, code=code
        )
        platform = Platform(
            base_url=url_of(base_url),
            credentials=credentials,
            timeout=timeout,
            retry_for=retry_for,
            patience=patience,
            live=live,
            poll_pause=poll_pause,
        )
        self._platform = platform
        self._driver = AsyncDriver(platform, transport)

    @property
    def base_url(self) -> str:
        return self._platform.base_url

    async def close(self) -> None:
        await self._driver.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def me(self) -> Me:
        """Whose credentials these are."""
        return await self._driver.run(ops.me(self._platform))

    def workflow(self, name_or_id: str | int) -> AsyncWorkflow:
        """A workflow. It is looked up when it is first used."""
        return AsyncWorkflow(self, name_or_id)

    def workflows(self, **filters: Any) -> AsyncIterator[WorkflowInfo]:
        """All workflows that you see, page by page. Filters are those of the API, such as `search="import"`."""
        return self._driver.iterate(ops.workflows(self._platform, filters))

    async def run(self, run_id: str, *, workflow_id: int | None = None) -> AsyncRun:
        """A run by its id. With its workflow, one request is saved; a ticket needs it."""
        return AsyncRun(self, await self._driver.run(ops.find_run(self._platform, run_id, workflow_id)))

    def runs(self, **filters: Any) -> AsyncIterator[AsyncRun]:
        """Runs of all workflows, the newest first, page by page; for example `runs(state=["running", "queued"])`."""
        return self._driver.iterate(ops.runs(self._platform, None, self._run_of, filters))

    def events(
        self,
        *,
        after: int | None = None,
        workflow: int | None = None,
        run: str | None = None,
        user: int | None = None,
        types: Iterable[str] = (),
        follow: bool = False,
    ) -> AsyncIterator[Event]:
        """The events after a cursor (`id` of an event). With `follow`, for ever, by default from now on."""
        wanted = Wanted(workflow=workflow, run=run, user=user, types=frozenset(types))
        return self._driver.iterate(ops.events(self._platform, wanted, after, live=follow))

    def _run_of(self, info: RunInfo) -> AsyncRun:
        return AsyncRun(self, info)


class AsyncWorkflow:
    """A workflow, by name or id."""

    def __init__(self, client: AsyncClient, name_or_id: str | int) -> None:
        self._client = client
        self._driver = client._driver
        self._platform = client._platform
        self._ref = ops.WorkflowRef(name_or_id)

    async def info(self) -> WorkflowInfo:
        return await self._driver.run(ops.workflow_info(self._platform, self._ref))

    async def schema(self) -> dict[str, Any]:
        """The JSON schema of its parameters."""
        return await self._driver.run(ops.workflow_schema(self._platform, self._ref))

    async def task_ids(self) -> list[str]:
        """The tasks of its DAG."""
        return await self._driver.run(ops.task_ids(self._platform, self._ref))

    async def trigger(
        self,
        parameters: Any = None,
        /,
        *,
        idempotency_key: str | None = None,
        task_id: Reference | None = None,
        dataset_id: Reference | None = None,
        note: str | None = None,
        run_at: datetime | None = None,
        logical_date: datetime | None = None,
        data_interval: tuple[datetime, datetime] | None = None,
        **more: Any,
    ) -> AsyncRun:
        """Start a run and return at once. Parameters are keywords, or a mapping, if a name is taken already.

        A key is made for each call, so that a repeat after a cut makes no second run. Your own key makes that true for
        repeats of your program too. `task_id` and `dataset_id` are your own references.
        """
        body = ops.request_of(
            parameters,
            more,
            task_id=task_id,
            dataset_id=dataset_id,
            note=note,
            run_at=run_at,
            logical_date=logical_date,
            data_interval=data_interval,
        )
        return AsyncRun(
            self._client, await self._driver.run(ops.trigger(self._platform, self._ref, body, idempotency_key))
        )

    async def validate(self, parameters: Any = None, /, **more: Any) -> dict[str, Any]:
        """Check parameters as a trigger does, and return them with the defaults."""
        return await self._driver.run(ops.validate(self._platform, self._ref, ops.request_of(parameters, more)))

    def runs(self, **filters: Any) -> AsyncIterator[AsyncRun]:
        """Its runs, the newest first, page by page."""
        return self._driver.iterate(ops.runs(self._platform, self._ref, self._client._run_of, filters))

    def __repr__(self) -> str:
        return f"<AsyncWorkflow {self._ref.key!r}>"


class AsyncRun(RunView):
    """A run. `state`, `info` and the like are as they were when it was last asked for; `refresh` asks again."""

    def __init__(self, client: AsyncClient, info: RunInfo) -> None:
        super().__init__(info)
        self._driver = client._driver
        self._platform = client._platform

    async def refresh(self) -> AsyncRun:
        return self._now(await self._driver.run(ops.run_info(self._platform, self._ref)))

    def follow(
        self, *, after: int | None = None, timeout: float | None = None, until_ended: bool = True
    ) -> AsyncIterator[Event]:
        """Its events from the first one, or after a cursor, and then each as it happens, until it has ended.

        Whatever happens to the connection, no event is missing and none comes twice.
        """
        return self._driver.iterate(ops.follow_run(self._platform, self._ref, after, timeout, until_ended))

    async def wait(self, timeout: float | None = None) -> AsyncRun:
        """Wait until it has ended. Raises `WaitTimeoutError` after `timeout` seconds."""
        return self._now(await self._driver.run(ops.wait(self._platform, self._ref, timeout)))

    async def result(self, timeout: float | None = None) -> Result:
        """What its result task has returned, when it has ended and Airflow has given that. Waits as `wait` does."""
        return await self._driver.run(ops.result(self._platform, self._ref, timeout))

    def tasks(self) -> AsyncIterator[TaskInfo]:
        return self._driver.iterate(ops.tasks(self._platform, self._ref))

    def logs(
        self,
        task_id: str | None = None,
        *,
        map_index: int = -1,
        try_number: int | None = None,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """The log of a task, or those of all tasks. With `follow`, until they have ended."""
        if task_id is None:
            return self._driver.iterate(ops.run_logs(self._platform, self._ref, tail=tail, live=follow))
        log = ops.log_of(self._ref, task_id, map_index, try_number, tail=tail)
        return self._driver.iterate(ops.task_log(self._platform, log, live=follow))

    async def explain(self) -> Explanation:
        """Why it makes no progress, or why it failed, and who can do what about it."""
        return await self._driver.run(ops.explain(self._platform, self._ref))

    async def stop(self, *, note: str | None = None) -> AsyncRun:
        """Ask for a stop. It is `stopping` at once, and `stopped` when no task has a process any more."""
        return await self._control("stop", note=note)

    async def retry(
        self,
        mode: RetryMode | None = None,
        *,
        from_task: str | None = None,
        map_index: int | None = None,
        note: str | None = None,
    ) -> AsyncRun:
        """Repeat what failed (the default), everything, or a task and those after it."""
        return await self._control("retry", mode=mode, from_task=from_task, map_index=map_index, note=note)

    async def preview_retry(
        self, mode: RetryMode | None = None, *, from_task: str | None = None, map_index: int | None = None
    ) -> list[TaskRef]:
        """The tasks that a retry would repeat."""
        options: dict[str, Any] = {"mode": mode, "from_task": from_task, "map_index": map_index}
        return await self._driver.run(ops.preview_retry(self._platform, self._ref, **options))

    async def pause(self, *, scope: Literal["run", "workflow"] | None = None, note: str | None = None) -> AsyncRun:
        return await self._control("pause", scope=scope, note=note)

    async def resume(self, *, note: str | None = None) -> AsyncRun:
        return await self._control("resume", note=note)

    async def ticket(self, *actions: str, ttl: int = 300) -> Ticket:
        """Make a ticket for a browser: `view` by default, also `logs`, `stop`, `retry`."""
        return await self._driver.run(ops.ticket(self._platform, self._ref, list(actions) or ["view"], ttl))

    async def _control(self, action: ops.Action, **options: Any) -> AsyncRun:
        return self._now(await self._driver.run(ops.control(self._platform, self.info, action, **options)))

    def _now(self, info: RunInfo) -> AsyncRun:
        self.info = info
        return self
