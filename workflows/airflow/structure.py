"""What only the structure of a DAG says of its tasks, as Airflow 3 gives it to its own user interface."""

from collections.abc import Iterator, Mapping
from typing import Any

from .reading import Record


def places(data: Any) -> dict[str, dict[str, str]]:
    """Return the `role` (setup, teardown) and the outermost `mapped_group` of each task that has one."""
    return {task_id: place for task_id, place in _places(Record(data, "structure"), "nodes", None) if place}


def _places(record: Record, key: str, mapped_group: str | None) -> Iterator[tuple[str, dict[str, str]]]:
    for item in record.items(key):
        node = Record(item, "node of a structure")
        if node.value("children"):
            of_group = node.text("id") if node.value("is_mapped") else None
            yield from _places(node, "children", mapped_group or of_group)
        else:
            found: Mapping[str, str | None] = {
                "role": node.optional_text("setup_teardown_type"),
                "mapped_group": mapped_group,
            }
            yield node.text("id"), {name: value for name, value in found.items() if value}
