"""What we do with one DAG, and so what Airflow may refuse to our account for one DAG and allow for another."""

import re
from enum import StrEnum
from urllib.parse import unquote


class Deed(StrEnum):
    SEE = "see"
    SEE_TASKS = "see_tasks"
    SEE_RUNS = "see_runs"
    READ_LOGS = "read_logs"
    READ_RESULTS = "read_results"
    RUN = "run"
    STOP = "stop"
    RETRY = "retry"
    PAUSE = "pause"
    DELETE_RUNS = "delete_runs"


# As in "may not … the DAG etl".
WORDS = {
    Deed.SEE: "see",
    Deed.SEE_TASKS: "see the tasks of",
    Deed.SEE_RUNS: "see runs of",
    Deed.READ_LOGS: "read logs of",
    Deed.READ_RESULTS: "read what the tasks return (XComs) of",
    Deed.RUN: "run",
    Deed.STOP: "stop runs of",
    Deed.RETRY: "retry runs of",
    Deed.PAUSE: "pause",
    Deed.DELETE_RUNS: "delete runs of",
}

# `~` stands for all DAGs.
OF_ONE_DAG = re.compile(r"/dags/(?!~/|~$)(?P<dag_id>[^/]+)(?P<rest>/.*)?")


def deed_of(method: str, path: str) -> tuple[str, Deed] | None:
    """Return which DAG a request is about and what it does with it; None if it is not about one DAG."""
    match = OF_ONE_DAG.fullmatch(path)
    return (unquote(match["dag_id"]), _deed(method, match["rest"] or "")) if match else None


def _deed(method: str, rest: str) -> Deed:
    is_of_runs = rest.startswith("/dagRuns")
    match method:
        case "POST":
            return Deed.RUN if is_of_runs else Deed.RETRY
        case "PATCH":
            return Deed.STOP if is_of_runs else Deed.PAUSE
        case "DELETE":
            return Deed.DELETE_RUNS
    if "/logs/" in rest:
        return Deed.READ_LOGS
    if "/xcomEntries/" in rest:
        return Deed.READ_RESULTS
    if is_of_runs:
        return Deed.SEE_RUNS
    return Deed.SEE_TASKS if rest.startswith("/tasks") else Deed.SEE
