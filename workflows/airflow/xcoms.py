"""The values that tasks return, as Airflow 3 stores them: JSON, with objects for what JSON does not know."""

from typing import Any

_NAME, _DATA = "__classname__", "__data__"
_LISTS = frozenset({"builtins.tuple", "builtins.set", "builtins.frozenset"})


def without_classes(value: Any) -> Any:
    """Return the value with lists in place of the objects in which Airflow stores tuples and sets."""
    if isinstance(value, dict):
        if str(value.get(_NAME)) in _LISTS and isinstance(value.get(_DATA), list):
            return without_classes(value[_DATA])
        return {key: without_classes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_classes(item) for item in value]
    return value
