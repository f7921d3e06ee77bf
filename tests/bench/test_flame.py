"""A profile as a picture: one box for each function, as wide as its share, without those that only call one other."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.table import flame


def _frame(name: str, time: float, *children: dict[str, Any], file: str = "workflows/x.py") -> dict[str, Any]:
    return {"name": name, "file": file, "time": time, "children": list(children)}


def _widths(picture: str) -> dict[str, float]:
    """Return the width of each box, as a share of the whole picture."""
    found = re.findall(r"<title>(\S+) .*?</title><rect .*?width=\"([\d.]+)\"", picture)
    scale = flame.WIDTH - 2 * flame.MARGIN
    return {name: round(float(width) / scale, 2) for name, width in found}


def test_calls_of_one_function_are_one_box_and_what_only_passes_on_is_left_out() -> None:
    once = _frame("middleware", 6.0, _frame("query", 2.0), _frame("render", 4.0))
    again = _frame("middleware", 4.0, _frame("query", 4.0))
    root = _frame("main", 10.0, _frame("server", 10.0, once, again))

    picture = flame.svg(root, title="GET /runs")

    assert _widths(picture) == {"middleware": 1.0, "query": 0.6, "render": 0.4}


def test_names_are_text_and_too_narrow_boxes_are_left_out() -> None:
    root = _frame("main", 10.0, _frame("<lambda>", 5.0), _frame("rest", 4.0), _frame("moment", 0.01))

    picture = flame.svg(root, title="a & b")

    assert "&lt;lambda&gt;" in picture
    assert "a &amp; b" in picture
    assert "moment" not in picture
