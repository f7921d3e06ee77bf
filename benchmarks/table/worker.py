"""`python -m benchmarks.table.worker NAME EXTENT`: measures rows on one database, one per line of standard input."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import django

django.setup()

from django.db import connection  # noqa: E402 - after the set-up

from accounts import services as accounts  # noqa: E402
from benchmarks import rows  # noqa: E402
from benchmarks.table import data  # noqa: E402
from benchmarks.table.counters import Counters  # noqa: E402
from benchmarks.table.row import CPU, TIME, Row  # noqa: E402
from benchmarks.table.stage import Stage  # noqa: E402

if TYPE_CHECKING:
    from pyinstrument.frame import Frame


def main() -> None:
    # Ends with an exception, so that the processes of a row end too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    # Whatever is printed by others goes to the errors: the answers have the output to themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    stage = Stage(name=sys.argv[1], extent=sys.argv[2], counters=Counters())
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = _do(stage, order)
        except Exception as exc:  # noqa: BLE001 - one row that fails must not end the others
            traceback.print_exc()
            answer = {"error": f"{type(exc).__name__}: {exc}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _do(stage: Stage, order: dict[str, Any]) -> dict[str, Any]:
    if "load" in order:
        data.load(data.Size(**order["load"]), say=lambda sentence: print(f"    {sentence}", flush=True))
        return {}
    if "tokens" in order:
        return {"tokens": [accounts.sign_in(user=stage.user(name)).access_token for name in order["tokens"]]}
    if "profile" in order:
        return profiled(stage, rows.named(order["profile"]), seconds=order["seconds"])
    return measured(stage, rows.named(order["row"]), order["side"])


def measured(stage: Stage, row: Row, side: str) -> dict[str, Any]:
    """Measure one work. Return its figures per operation; times are in milliseconds."""
    stage.many = row.counted if stage.is_counting else row.many
    stage.clear()
    prepare = row.peer if side == "peer" and row.peer else row.subject
    work = prepare(stage)
    gc.collect()
    stage.restart_counts()
    began, cpu = time.perf_counter(), time.process_time()
    own = work()
    taken, used = time.perf_counter() - began, time.process_time() - cpu
    figures = {name: value / stage.many for name, value in stage.counts().items()}
    figures |= {TIME: taken * 1000 / stage.many if own is None else own, CPU: used * 1000 / stage.many}
    if stage.is_counting:
        # Once more, because each SELECT is explained beside: that would be counted as time.
        stage.clear()
        work = prepare(stage)
        stage.restart_counts()
        with stage.counters.explaining():
            work()
        figures |= {name: value / stage.many for name, value in stage.counts().items()}
    connection.close_if_unusable_or_obsolete()
    return figures


def profiled(stage: Stage, row: Row, *, seconds: float) -> dict[str, Any]:
    """Sample the works of a row for so long, without their preparation. Return the tree of frames."""
    from pyinstrument import Profiler  # here: what is measured does not load it

    profiler = Profiler(interval=0.001, async_mode="disabled")
    stage.many = row.many
    sampled = 0.0
    while sampled < seconds:
        stage.clear()
        work = row.subject(stage)
        began = time.perf_counter()
        with profiler:
            work()
        sampled += time.perf_counter() - began
    session = profiler.last_session
    assert session
    root = session.root_frame()
    assert root
    return _frame(root)


def _frame(frame: Frame) -> dict[str, Any]:
    children = [_frame(child) for child in frame.children if not child.is_synthetic]
    file = str(frame.file_path_short or "").replace("\\", "/")
    return {"name": frame.function, "file": file, "time": frame.time, "children": children}


if __name__ == "__main__":
    main()
