"""`python -m runner up | demo | serve PART… | with PART… -- COMMAND`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from runner.demo import demo
from runner.errors import StartError
from runner.home import Home
from runner.serve import PARTS, run_with, serve
from runner.up import up


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    words, command = _split(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    try:
        return _run(options, command)
    except StartError as exc:
        Console(stderr=True, soft_wrap=True).print(str(exc), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 0


def _run(options: argparse.Namespace, command: list[str]) -> int:
    home = Home(Path(os.environ.get("SVOPS_HOME") or ".svops"))
    if options.action == "serve":
        return serve(options.parts, home=home, verbose=options.verbose)
    if options.action == "with":
        return run_with(options.parts, command, home=home, verbose=options.verbose)
    start = demo if options.action == "demo" else up
    return start(home, console=Console(), verbose=options.verbose)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runner", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("up", "demo", "serve", "with"):
        action = actions.add_parser(name)
        action.add_argument("--verbose", action="store_true", help="show what every process says")
        if name in {"serve", "with"}:
            action.add_argument("parts", nargs="+", choices=sorted(PARTS))
    return parser


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
