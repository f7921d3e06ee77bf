"""The commands. Each is a few calls of the client; `show` prints, `watch` draws."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any

import typer

from svops_client._core.arguments import url_of
from svops_client.cli import doctor as examination
from svops_client.cli import login as signing_in
from svops_client.cli import show, store
from svops_client.cli.parameters import parameters_of
from svops_client.cli.show import Format
from svops_client.cli.watch import line_of, watch
from svops_client.client import Client, Run
from svops_client.codegen import source_of
from svops_client.errors import (
    ApiError,
    AuthenticationError,
    InvalidRequestError,
    SVOpsError,
    TransportError,
    WaitTimeoutError,
)

# The exit code follows the run.
COMPLETED, FAILED, USAGE, STOPPED, NO_ANSWER, UNFINISHED = 0, 1, 2, 3, 4, 5
CODES = {"success": COMPLETED, "failed": FAILED, "stopped": STOPPED}

app = typer.Typer(
    name="svops",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trigger workflows, follow them live, stop and retry them. Exit code: 0 completed, 1 failed, 2 wrong use, "
    "3 stopped, 4 no answer or not signed in, 5 not ended in time.",
)
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
RunId = Annotated[str, typer.Argument(help="The id of a run.")]
WorkflowName = Annotated[str, typer.Argument(help="A workflow, by name or id.")]
Note = Annotated[str | None, typer.Option("--note", help="Why; it is kept with the run.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, help="Seconds to watch; the run goes on after them.")
]
Watch = Annotated[bool, typer.Option("-w", "--watch", help="Watch the run until it has ended.")]


class _Session:
    """The address of the platform, and the client for it when it is needed."""

    url: str = ""

    def client(self) -> Client:
        # Client itself takes SVOPS_API_KEY.
        return Client(self.url, api_key=None if _has_key_in_environment() else store.key_of(self.url))


session = _Session()


def _has_key_in_environment() -> bool:
    return bool(os.environ.get("SVOPS_API_KEY"))


@app.callback()
def _begin(
    url: Annotated[str | None, typer.Option("--url", envvar="SVOPS_URL", help="By default, that of the login.")] = None,
) -> None:
    try:
        session.url = url_of(url or store.known_url())
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--url") from exc


def _key_of(workflow: str) -> int | str:
    return int(workflow) if workflow.isdecimal() else workflow


def _finish(run: Run) -> None:
    """Say how the run has ended, and exit with its code."""
    duration = f" in {show.seconds(run.info.duration_s)}" if run.info.duration_s is not None else ""
    reason = f": {run.info.state_reason}" if run.info.state_reason else ""
    show.err.print(f"{run.info.workflow_name} {show.state(run.state)}{duration}{reason}")
    raise typer.Exit(CODES.get(run.state, UNFINISHED))


def _watch(client: Client, run: Run, timeout: float | None) -> None:
    _finish(watch(run, _task_ids(client, run), timeout=timeout))


def _task_ids(client: Client, run: Run) -> list[str]:
    """Return the tasks of the run's DAG, so that those are shown that have not begun. Not everybody may see it."""
    try:
        return client.workflow(run.workflow_id).task_ids()
    except ApiError:
        return []


def _show_run(run: Run, output: Format) -> None:
    if output is Format.JSON:
        show.print_json(run.info)
        return
    info = run.info
    times = [("created", info.created_at), ("started", info.started_at), ("ended", info.ended_at)]
    fields = [("state", info.state), ("reason", info.state_reason), ("attempt", info.attempt), *times]
    more = [("parameters", info.parameters), ("note", info.note), ("result", info.result and info.result.value)]
    show.print_fields(f"{info.workflow_name} {info.id}", [*fields, *more])


# --- Who asks -------------------------------------------------------------------------------------


@app.command()
def login(
    username: Annotated[str | None, typer.Option("--username", help="Asked for by default.")] = None,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Keep an API key that you have: it is asked for.")
    ] = False,
    days: Annotated[int, typer.Option("--days", min=1, help="How long the new key is good.")] = 90,
) -> None:
    """Sign in once: makes an API key and keeps it in the keyring, or in a file that only you can read."""
    if with_key:
        key = typer.prompt("API key", hide_input=True, err=True)
        with Client(session.url, api_key=key) as client:
            who = client.me()
    else:
        username = username or typer.prompt("Username", err=True)
        password = typer.prompt("Password", hide_input=True, err=True)
        key, who = signing_in.new_key(session.url, username, password, days=days)
    where = store.keep(session.url, key)
    show.err.print(f"Signed in at {session.url} as {who.username}. The key is in {where}.")


@app.command()
def logout() -> None:
    """Forget the key of this machine."""
    store.forget(session.url)
    show.err.print(f"Forgotten. Revoke the key too, if somebody may have read it: {session.url}/account")


@app.command()
def whoami(output: Output = Format.TABLE) -> None:
    """Show whose key this is, and what it allows."""
    with session.client() as client:
        who = client.me()
    if output is Format.JSON:
        show.print_json(who)
    else:
        show.print_fields(who.username, [("role", who.role), ("scopes", ", ".join(who.scopes)), ("at", session.url)])


@app.command()
def doctor(output: Output = Format.TABLE) -> None:
    """Try what the client needs, and say what is missing."""
    with session.client() as client:
        checks = list(examination.examine(client))
    if output is Format.JSON:
        show.print_json(checks)
    for check in checks if output is Format.TABLE else []:
        mark = "[green]✓[/green]" if check.good else "[red]✗[/red]"
        show.out.print(f"{mark} {check.name:<12} {show.cell(check.detail)}")
    raise typer.Exit(COMPLETED if all(check.good for check in checks) else FAILED)


# --- Workflows and runs ---------------------------------------------------------------------------


@app.command()
def workflows(
    search: Annotated[str | None, typer.Option("--search", help="A part of the name.")] = None,
    limit: Limit = 50,
    output: Output = Format.TABLE,
) -> None:
    """List workflows."""
    columns = {"ID": "id", "NAME": "name", "DAG": "dag_id", "OWNER": "owner", "PAUSED": "is_paused"}
    with session.client() as client:
        show.print_rows(itertools.islice(client.workflows(search=search), limit), columns, output)


@app.command()
def types(
    workflow: WorkflowName,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
    name: Annotated[str, typer.Option("--name", help="Of the class; by default, that of the workflow.")] = "",
) -> None:
    """Write a typed class for the parameters of a workflow."""
    if name and (not name.isidentifier() or iskeyword(name)):
        raise typer.BadParameter(f"{name!r} is no name of a class", param_hint="--name")
    with session.client() as client:
        named = client.workflow(_key_of(workflow))
        text = source_of(named.info().name, named.schema(), name=name)
    if out:
        out.write_text(text)
    else:
        show.out.file.write(text)


@app.command()
def trigger(
    workflow: WorkflowName,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value; may be repeated.")] = None,
    params: Annotated[Path | None, typer.Option("--params", help="A file with a JSON object.")] = None,
    note: Note = None,
    idempotency_key: Annotated[str | None, typer.Option("--key", help="A repeat with it returns the same run.")] = None,
    watching: Watch = False,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Start a run. Parameters have the types of the workflow's schema."""
    with session.client() as client:
        named = client.workflow(_key_of(workflow))
        given = parameters_of(param or [], params, named.schema() if param else {})
        run = named.trigger(given, note=note, idempotency_key=idempotency_key)
        if not watching or output is Format.JSON:
            _show_run(run, output) if output is Format.JSON else show.out.print(run.id, highlight=False)
        if watching:
            _finish(run.wait(timeout)) if output is Format.JSON else _watch(client, run, timeout)


@app.command(name="watch")
def watch_run(run_id: RunId, timeout: Timeout = None) -> None:
    """Watch a run until it has ended."""
    with session.client() as client:
        _watch(client, client.run(run_id), timeout)


@app.command()
def runs(
    workflow: Annotated[str | None, typer.Option("-w", "--workflow", help="Only of this one, by name or id.")] = None,
    state: Annotated[list[str] | None, typer.Option("-s", "--state", help="May be repeated.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="In note, reason, workflow, dag_run_id.")] = None,
    limit: Limit = 20,
    output: Output = Format.TABLE,
) -> None:
    """List runs, the newest first."""
    filters: dict[str, Any] = {"state": state, "search": search}
    columns = {"ID": "id", "WORKFLOW": "workflow_name", "STATE": "state", "BY": "username", "CREATED": "created_at"}
    with session.client() as client:
        found = client.workflow(_key_of(workflow)).runs(**filters) if workflow else client.runs(**filters)
        infos = (run.info for run in itertools.islice(found, limit))
        show.print_rows(infos, {**columns, "DURATION": "duration_s"}, output)


@app.command(name="show")
def show_run(run_id: RunId, output: Output = Format.TABLE) -> None:
    """Show a run and its tasks."""
    with session.client() as client:
        run = client.run(run_id)
        _show_run(run, output)
        if output is Format.TABLE:
            show.print_rows(
                run.tasks(), {"TASK": "name", "STATE": "state", "TRY": "try_number", "DURATION": "duration_s"}, output
            )


@app.command()
def logs(
    run_id: RunId,
    task: Annotated[str | None, typer.Argument(help="By default, all tasks.")] = None,
    map_index: Annotated[int, typer.Option("--map-index", help="The instance of a mapped task.")] = -1,
    try_number: Annotated[int | None, typer.Option("--try", help="By default, the newest.")] = None,
    tail: Annotated[int | None, typer.Option("--tail", min=1, help="Only so many of the last lines.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until the log has ended.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print the log of a task, or of all tasks of a run."""
    with session.client() as client:
        lines = client.run(run_id).logs(task, map_index=map_index, try_number=try_number, tail=tail, follow=follow)
        for line in lines:
            if output is Format.JSON:
                show.print_json(line)
            else:
                before = "" if task else f"{line.task_id}: "
                show.out.print(f"{before}{line.text}", markup=False, highlight=False)


@app.command()
def stop(run_id: RunId, note: Note = None, watching: Watch = False, timeout: Timeout = None) -> None:
    """Stop a run."""
    with session.client() as client:
        run = client.run(run_id).stop(note=note)
        show.err.print(f"{run.info.workflow_name} {show.state(run.state)}")
        if watching:
            _watch(client, run, timeout)


@app.command()
def retry(
    run_id: RunId,
    mode: Annotated[str, typer.Option("--mode", help="failed, all or from_task.")] = "failed",
    from_task: Annotated[str | None, typer.Option("--from-task", help="The task to begin at.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the tasks.")] = False,
    note: Note = None,
    watching: Watch = False,
    timeout: Timeout = None,
) -> None:
    """Repeat what failed, everything, or a task and those after it."""
    chosen: Any = "from_task" if from_task else mode
    with session.client() as client:
        run = client.run(run_id)
        if dry_run:
            found = run.preview_retry(chosen, from_task=from_task)
            show.print_rows(found, {"TASK": "task_id", "INDEX": "map_index"}, Format.TABLE)
            return
        run.retry(chosen, from_task=from_task, note=note)
        show.err.print(f"{run.info.workflow_name} {show.state(run.state)}, attempt {run.info.attempt}")
        if watching:
            _watch(client, run, timeout)


@app.command()
def explain(run_id: RunId, output: Output = Format.TABLE) -> None:
    """Say why a run makes no progress or has failed, and who can do what."""
    with session.client() as client:
        found = client.run(run_id).explain()
    if output is Format.JSON:
        show.print_json(found)
        return
    show.out.print(show.state(found.state))
    for reason in found.reasons:
        show.out.print(
            f"- {show.cell(reason.reason)}\n  [dim]{show.cell(reason.who)}: {show.cell(reason.action)}[/dim]"
        )


@app.command()
def events(
    run: Annotated[str | None, typer.Option("--run", help="Only of this run.")] = None,
    workflow: Annotated[int | None, typer.Option("--workflow", help="Only of this one, by id.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="May be repeated.")] = None,
    after: Annotated[int | None, typer.Option("--after", min=0, help="After the event with this id.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="And then each as it happens, for ever.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print events, one a line."""
    with session.client() as client:
        for event in client.events(run=run, workflow=workflow, types=types or (), after=after, follow=follow):
            if output is Format.JSON:
                show.print_json(event.raw)
            else:
                show.out.print(line_of(event))


# --- Errors ---------------------------------------------------------------------------------------


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="svops")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE
    except KeyboardInterrupt:
        return 130
    except SVOpsError as exc:
        show.err.print(f"svops: {show.cell(str(exc))}", style="red")
        if isinstance(exc, AuthenticationError):
            show.err.print("Sign in: svops login")
        return _code_of(exc)
    return COMPLETED


def _code_of(exc: SVOpsError) -> int:
    if isinstance(exc, InvalidRequestError):
        return USAGE
    if isinstance(exc, (AuthenticationError, TransportError)):
        return NO_ANSWER
    return UNFINISHED if isinstance(exc, WaitTimeoutError) else FAILED


if __name__ == "__main__":
    sys.exit(run())
