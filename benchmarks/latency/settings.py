"""The product's settings, and on top what notes the times: nothing of it is in the product."""

from svops.settings import *  # noqa: F403
from svops.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.latency.apps.MarksConfig"]
MIDDLEWARE = ["benchmarks.latency.marks.received", *MIDDLEWARE]
