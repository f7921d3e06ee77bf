"""What the tasks of the chaos do: they leave traces while they work."""

import datetime
import os
import time

OPTIONS = {"schedule": None, "start_date": datetime.datetime(2024, 1, 1), "catchup": False, "tags": ["chaos"]}


def witness(context) -> None:
    """Leave a trace that shows this process is alive now, whatever Airflow says of it."""
    instance = context["ti"]
    with open(os.path.join(os.environ["CHAOS_WITNESSES"], context["run_id"]), "a") as file:
        file.write(f"{time.time()} {instance.task_id} {instance.map_index} {instance.try_number} {os.getpid()}\n")


def work(seconds=None, **context) -> None:
    seconds = context["params"]["seconds"] if seconds is None else seconds
    ends = time.monotonic() + seconds
    witness(context)
    while time.monotonic() < ends:
        time.sleep(0.2)
        witness(context)
    if context["params"]["fails"] and context["ti"].try_number == 1:
        raise RuntimeError("asked to fail") from ValueError("its cause")


def dated(day, interval, **context) -> None:
    """Work, if the templates have rendered the dates that the run has."""
    run = context["dag_run"]
    expected = f"{run.data_interval_start.isoformat()} {run.data_interval_end.isoformat()}"
    if (day, interval) != (run.logical_date.strftime("%Y-%m-%d"), expected):
        raise RuntimeError(f"{day} {interval}, but the run has {run.logical_date} {expected}")
    work(**context)
