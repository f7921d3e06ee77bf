"""Reads the counts of the load client from the file that it shares (`struct progress` in load.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

BUCKETS = 1024
LAYOUT = struct.Struct(f"={8 + BUCKETS}Q")
SLOWEST = struct.Struct("=Q")
SLOWEST_AT = 7 * 8


@dataclass(frozen=True, kw_only=True)
class Counted:
    open: int
    closed: int
    deliveries: int
    lost: int
    disordered: int
    messages: int
    bytes: int
    slowest: int
    latency: tuple[int, ...]

    def since(self, earlier: Counted) -> Counted:
        """Return the counts since `earlier`. `open` and `slowest` are the present values."""
        return Counted(
            open=self.open,
            closed=self.closed - earlier.closed,
            deliveries=self.deliveries - earlier.deliveries,
            lost=self.lost - earlier.lost,
            disordered=self.disordered - earlier.disordered,
            messages=self.messages - earlier.messages,
            bytes=self.bytes - earlier.bytes,
            slowest=self.slowest,
            latency=tuple(now - then for now, then in zip(self.latency, earlier.latency, strict=True)),
        )


def read(path: Path) -> Counted:
    values = LAYOUT.unpack(path.read_bytes())
    names = ("open", "closed", "deliveries", "lost", "disordered", "messages", "bytes", "slowest")
    return Counted(latency=values[8:], **dict(zip(names, values, strict=False)))


def percentile_ms(latency: tuple[int, ...], share: float) -> float:
    """Return the latency in milliseconds that `share` of the deliveries did not exceed, or 0 without deliveries."""
    left = sum(latency) * share
    for bucket, count in enumerate(latency):
        left -= count
        if count and left <= 0:
            return _upper_us(bucket) / 1000
    return 0.0


def _upper_us(bucket: int) -> int:
    """Return the upper end of a bucket. There are 16 buckets per power of two."""
    if bucket < 16:
        return bucket + 1
    power, step = divmod(bucket, 16)
    return int((17 + step) << (power - 1))
