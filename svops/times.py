"""How a time is written, wherever the API shows one."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, ending in Z, as DRF writes it too."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
