"""Draws where a row spends its time, as a flame graph: each box is a function, as wide as its share of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 1200, 17, 10
TITLE = 40
LEAST = 0.008  # of the whole; narrower boxes are left out
ALL = 0.97  # of the time of a frame: then it is the time of the one that it calls
CHARACTER = 6.2  # pixels of a character of the labels
# By the first part of the path of the file.
COLOURS = {
    "workflows": "#f4a259",
    "notifications": "#f4a259",
    "accounts": "#f4a259",
    "rest": "#f4a259",
    "benchmarks": "#dddddd",
    "psycopg": "#8fb8a8",
    "psycopg_pool": "#8fb8a8",
    "redis": "#8fb8a8",
    "urllib3": "#8fb8a8",
    "requests": "#8fb8a8",
    "django": "#9db4d6",
    "rest_framework": "#c3a9d1",
}
OTHER = "#eeeeee"
Frame = Mapping[str, Any]
LEGEND = "orange: SVOps; blue: Django; violet: REST framework; green: database, Redis and HTTP; grey: others"


@dataclass(frozen=True, kw_only=True)
class Box:
    x: float
    depth: int
    width: float
    label: str
    file: str
    share: float


def svg(root: Frame, *, title: str) -> str:
    """Return the picture of a frame with its `name`, `file`, `time` in seconds and `children`."""
    boxes = list(_boxes(_short(_merged([root])[0]), x=0.0, depth=0, whole=root["time"] or 1.0))
    height = TITLE + HEIGHT * (max(box.depth for box in boxes) + 1) + MARGIN
    shapes = "\n".join(map(_shape, boxes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        f' font-size="11">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="{MARGIN}" y="16" font-size="13">{escape(title)}</text>\n'
        f'<text x="{MARGIN}" y="32" fill="#666666">{LEGEND}</text>\n{shapes}\n</svg>\n'
    )


def _merged(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames with those of one function put together, at each depth."""
    together: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        together.setdefault((frame["name"], frame["file"]), []).append(frame)
    return [
        {
            "name": name,
            "file": file,
            "time": sum(frame["time"] for frame in same),
            "children": _merged([child for frame in same for child in frame["children"]]),
        }
        for (name, file), same in together.items()
    ]


def _short(frame: Frame) -> Frame:
    """Return the frame without those below it that do nothing but call one other, such as middleware."""
    children = [_short(child) for child in frame["children"]]
    for child in children:
        if child["time"] >= ALL * frame["time"] and child["children"]:
            return child
    return {**frame, "children": children}


def _boxes(frame: Frame, *, x: float, depth: int, whole: float) -> Iterator[Box]:
    share = frame["time"] / whole
    if share < LEAST:
        return
    yield Box(x=x, depth=depth, width=share, label=frame["name"], file=frame["file"], share=share)
    for child in sorted(frame["children"], key=lambda one: -one["time"]):
        yield from _boxes(child, x=x, depth=depth + 1, whole=whole)
        x += child["time"] / whole


def _shape(box: Box) -> str:
    scale = WIDTH - 2 * MARGIN
    x, y, width = MARGIN + box.x * scale, TITLE + box.depth * HEIGHT, box.width * scale
    colour = COLOURS.get(box.file.split("/")[0], OTHER)
    room = int((width - 4) / CHARACTER)
    label = box.label if len(box.label) <= room else f"{box.label[: room - 1]}…" if room > 3 else ""
    text = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(label)}</text>' if label else ""
    about = escape(f"{box.label} ({box.file}), {box.share:.1%}")
    rect = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT - 1}" fill="{colour}" rx="1"/>'
    return f"<g><title>{about}</title>{rect}{text}</g>"
