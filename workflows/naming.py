"""The names of Airflows."""

from __future__ import annotations

# The one that the settings `AIRFLOW_URL` and its kin describe.
DEFAULT = "default"
LONGEST_NAME = 50
# Also part of addresses.
PATTERN = r"[a-z0-9]+(?:-[a-z0-9]+)*"
EXPECTED = "Lower-case letters and digits, with single hyphens between them."
