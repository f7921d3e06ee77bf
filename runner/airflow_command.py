"""Runs an `airflow` command like the script `airflow`, but starts faster. For Airflow's own Python.

The API server writes its log of actions in threads (`_log_actions_in_threads`).

If it is held (`SVOPS_HELD`), it imports the code of the command and then waits for a line on its standard input.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module

# At its start Airflow only builds objects that stay. Searching them for garbage would take a quarter of the time.
gc.set_threshold(100_000, 20, 20)

from airflow.__main__ import main  # noqa: E402 - building begins with this import


def _log_actions_in_threads() -> None:
    """Keep the API server's event loop free while it writes who did what.

    Airflow commits that row in the event loop. If another request has SQLite's lock then, it cannot end, because its
    own commit needs the loop: the whole API stands still until SQLite gives up, which is after 60 s here.
    """
    from typing import Annotated

    from airflow.api_fastapi.logging import decorators
    from fastapi import Depends, Request

    async def read_body(request: Request) -> None:
        # In the loop, and kept by the request: the thread only takes it from there.
        await request.body()

    # 3.0 has no name for this dependency.
    user_dependency = getattr(decorators, "GetUserDep", None)
    if user_dependency is None:
        user_dependency = Annotated[object, Depends(decorators.get_user_with_exception_handling)]
    original = decorators.action_logging

    def action_logging(event: str | None = None) -> Callable[..., None]:
        log_action = original(event)

        def log_in_thread(
            request: Request,
            session: decorators.SessionDep,
            user: user_dependency,  # type: ignore[valid-type]
            body: Annotated[None, Depends(read_body)],
        ) -> None:
            asyncio.run(log_action(request, session, user))

        return log_in_thread

    decorators.action_logging = action_logging


if __name__ == "__main__":
    if os.environ.pop("SVOPS_HELD", ""):
        import_module(f"airflow.cli.commands.{sys.argv[1].replace('-', '_')}_command")
        if not sys.stdin.readline():
            sys.exit("The platform has ended.")
    if sys.argv[1:2] == ["api-server"]:
        _log_actions_in_threads()
    sys.argv[0] = "airflow"
    sys.exit(main())
