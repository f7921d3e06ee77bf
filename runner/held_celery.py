"""`python -m runner.held_celery`: the command `celery`. If it is held, it loads SVOps and then waits for a line."""

from __future__ import annotations

import os
import sys

from celery.__main__ import main

from runner.part import HELD

if __name__ == "__main__":
    if os.environ.pop(HELD, ""):
        import django
        from celery.apps import beat, worker  # noqa: F401 - loaded before the wait

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")
        django.setup()
        if not sys.stdin.readline():
            sys.exit("The platform has ended.")
    sys.argv[0] = "celery"
    main()
