"""`make up`: runs everything in the foreground until a signal."""

from __future__ import annotations

import threading

from rich.console import Console

from runner.home import Home
from runner.platform import Platform


def up(home: Home, *, console: Console, verbose: bool) -> int:
    with home.locked():
        platform = Platform(home, console=console, verbose=verbose)

        def then(_stop: threading.Event) -> None:
            platform.announce()
            platform.examine()
            console.print("Ctrl-C stops everything.", style="dim")

        return platform.run(then)
