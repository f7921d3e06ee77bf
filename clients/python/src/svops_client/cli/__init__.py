"""The command `svops`. It needs the extra `cli`; nothing else of the package imports this."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command and exit with its code."""
    try:
        from svops_client.cli.app import run
    except ModuleNotFoundError as exc:
        sys.stderr.write(f"svops: {exc.name} is missing; install the command with: pip install 'svops-client[cli]'\n")
        sys.exit(2)
    sys.exit(run())
