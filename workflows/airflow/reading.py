"""Read JSON of unknown quality and check the type of each field."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .errors import AirflowShapeError


class Record:
    """A JSON object from Airflow. Each method reads one field or raises `AirflowShapeError`."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, Mapping):
            raise AirflowShapeError(f"{what}: expected an object, got {type(value).__name__}")
        self.fields: Mapping[str, Any] = value
        self._what = what

    def text(self, name: str) -> str:
        return str(self._typed(name, str, "a string"))

    def optional_text(self, name: str) -> str | None:
        return None if self._is_null(name) else self.text(name)

    def integer(self, name: str) -> int:
        # Airflow writes some counts as 0.0.
        value = self.number(name)
        if not value.is_integer():
            raise self._malformed(name, "an integer")
        return int(value)

    def optional_integer(self, name: str) -> int | None:
        return None if self._is_null(name) else self.integer(name)

    def number(self, name: str) -> float:
        value = self._typed(name, (int, float), "a number")
        if isinstance(value, bool):
            raise self._malformed(name, "a number")
        try:
            return float(value)
        except OverflowError as exc:
            raise self._malformed(name, "a smaller number") from exc

    def optional_number(self, name: str) -> float | None:
        return None if self._is_null(name) else self.number(name)

    def flag(self, name: str) -> bool:
        return bool(self._typed(name, bool, "true or false"))

    def time(self, name: str) -> datetime | None:
        """Return an aware datetime, or None if Airflow has none."""
        if self._is_null(name):
            return None
        try:
            moment = datetime.fromisoformat(self.text(name))
        except ValueError as exc:
            raise self._malformed(name, "an ISO 8601 time") from exc
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def object(self, name: str) -> Mapping[str, Any]:
        """Return the object under `name`. Null and a missing field are an empty object."""
        if self._is_null(name):
            return {}
        value: Mapping[str, Any] = self._typed(name, Mapping, "an object")
        return value

    def items(self, name: str) -> Sequence[Any]:
        value: Sequence[Any] = self._typed(name, list, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings under `name`. Null and a missing field are an empty list."""
        values = () if self._is_null(name) else self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise self._malformed(name, "a list of strings")
        return tuple(values)

    def required(self, name: str) -> Any:
        """Return the value under `name`, whatever it is. It may be null, but not missing."""
        if name not in self.fields:
            raise self._malformed(name, "there")
        return self.fields[name]

    def value(self, name: str) -> Any:
        return self.fields.get(name)

    def _is_null(self, name: str) -> bool:
        return self.fields.get(name) is None

    def _typed(self, name: str, kind: type | tuple[type, ...], expected: str) -> Any:
        value = self.fields.get(name)
        if not isinstance(value, kind):
            raise self._malformed(name, expected)
        return value

    def _malformed(self, name: str, expected: str) -> AirflowShapeError:
        got = type(self.fields[name]).__name__ if name in self.fields else "nothing"
        return AirflowShapeError(f"{self._what}: {name} should be {expected}, got {got}")
