"""The product's settings plus the code that writes the times. None of that code is in the product."""

from svops.settings import *  # noqa: F403
from svops.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.latency.apps.MarksConfig"]
MIDDLEWARE = ["benchmarks.latency.marks.received", *MIDDLEWARE]
