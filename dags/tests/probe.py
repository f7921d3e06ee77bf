"""Runs under Airflow's interpreter and answers questions of the tests: one JSON object per line, in and out.

`{"describe": folder}` parses a folder of DAGs, `{"run": dag_id, "conf": …}` runs one of them here and now,
and `{"call": "module.function", "args": …}` calls a function of a DAG's file.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

try:  # Airflow 3.2 and later
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag


class Records(logging.Handler):
    """Keeps the log messages of the tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def bag(folder: str) -> DagBag:
    return DagBag(dag_folder=folder)


def describe(folder: str) -> dict[str, Any]:
    found = bag(folder)
    dags = {dag_id: describe_dag(dag) for dag_id, dag in found.dags.items()}
    return {"import_errors": found.import_errors, "dags": dags}


def describe_dag(dag: Any) -> dict[str, Any]:
    params = {name: dag.params.get_param(name) for name in dag.params}
    return {
        "file": Path(dag.fileloc).name,
        "graph": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "retries": sorted({task.retries for task in dag.tasks}),
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "doc_md": dag.doc_md,
        "params": {
            name: {"value": param.value, "description": param.description, "schema": param.schema}
            for name, param in params.items()
        },
    }


def run(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG in this process. Return the states, the results and the log lines of its tasks."""
    dag = bag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags[dag_id]
    records = Records()
    logging.getLogger("airflow.task").addHandler(records)
    try:
        finished = dag.test(run_conf=conf)
    finally:
        logging.getLogger("airflow.task").removeHandler(records)
    instances = finished.get_task_instances()
    return {
        "run_id": finished.run_id,
        "state": finished.state,
        "tasks": {instance.task_id: instance.state for instance in instances},
        "results": {instance.task_id: result_of(instance) for instance in instances},
        "log": records.lines,
    }


def result_of(instance: Any) -> Any:
    return instance.xcom_pull(task_ids=instance.task_id)


def call(name: str, args: dict[str, Any]) -> Any:
    module, function = name.split(".")
    if args.pop("as_objects", False):
        args = {name: SimpleNamespace(**fields) for name, fields in args.items()}
    result = getattr(importlib.import_module(module), function)(**args)
    return list(result) if hasattr(result, "__next__") else result


def answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        if "describe" in question:
            return {"result": describe(question["describe"])}
        if "run" in question:
            return {"result": run(question["run"], question["conf"])}
        return {"result": call(question["call"], question["args"])}
    except Exception as exc:
        logging.getLogger(__name__).exception("no answer to %s", question)
        return {"error": f"{type(exc).__name__}: {exc}"}


def as_path(found: dict[str, Any]) -> Any:
    """Convert {"path": …} to a path; JSON has none."""
    return Path(found["path"]) if set(found) == {"path"} else found


def main() -> None:
    # A shell that starts this process in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Airflow prints to standard output, so the answers get their own channel.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line, object_hook=as_path)), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
