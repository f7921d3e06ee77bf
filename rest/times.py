"""The one form of a time in the API."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, ending in Z, as DRF writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
