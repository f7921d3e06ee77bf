"""The example DAGs, parsed and run by a real Airflow.

Airflow has its own environment: `.venv-airflow`, or another if `SVOPS_TEST_AIRFLOW` names another version.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from runner.versions import is_airflow_2, tested_version

if TYPE_CHECKING:
    from collections.abc import Iterator

# A task of a real Airflow may take minutes on a busy machine.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

DAGS = Path(__file__).resolve().parents[1]
TASKS = {
    "simple_workflow_example": ["start", "processing", "completion"],
    "data_processing_pipeline": ["extract", "transform", "load", "validate"],
    "ml_training_pipeline": ["prepare", "train", "evaluate"],
}
DEFECTS = ["no_customer", "bad_day", "bad_amount", "unknown_currency", "duplicate"]
ORDER = {
    "order_id": "17",
    "day": "2026-02-28",
    "customer": "C0001",
    "country": "PL",
    "amount": "10.00",
    "currency": "PLN",
}


class Probe:
    """A process under Airflow's interpreter that answers questions. `log` is everything that it printed."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def send(self, **question: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any] | None:
        """Return the next answer, or None if the process ended without one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, **question: Any) -> Any:
        self.send(**question)
        answer = self.receive()
        assert answer is not None, self.log[-3000:]
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, dag_id: str, **conf: Any) -> Any:
        return self.ask(run=dag_id, conf={"processing_time": 0, **conf})

    def call(self, function: str, **args: Any) -> Any:
        return self.ask(call=function, args=args)

    def wait_for_line(self, text: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{self.log[-3000:]}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.05)


@contextlib.contextmanager
def probing(environment: dict[str, str], *, log: Path) -> Iterator[Probe]:
    command = [f"{environment['VIRTUAL_ENV']}/bin/python", str(DAGS / "tests" / "probe.py")]
    with (
        log.open("w") as printed,
        subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield Probe(process, log)
            # The probe ends with its input.
            process.stdin.close()
            process.wait(timeout=120)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def airflow_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of an Airflow with a new database."""
    version = tested_version()
    locked = ".venv-airflow2" if is_airflow_2() else ".venv-airflow"
    venv = DAGS.parent / (f".venv-airflow-{version}" if version else locked)
    home = tmp_path_factory.mktemp("airflow")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = {
        **inherited,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(venv),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "SVOPS_DATA_DIR": str(home / "data"),
    }
    subprocess.run([venv / "bin" / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture(scope="session")
def airflow(airflow_environment: dict[str, str]) -> Iterator[Probe]:
    with probing(airflow_environment, log=Path(airflow_environment["AIRFLOW_HOME"]) / "probe.log") as probe:
        yield probe


@pytest.fixture(scope="session")
def described(airflow: Probe) -> dict[str, Any]:
    found: dict[str, Any] = airflow.ask(describe=str(DAGS))
    return found


# What Airflow finds in the folder


def test_airflow_finds_the_three_dags_one_per_file_and_nothing_in_the_tests(
    described: dict[str, Any],
) -> None:
    assert described["import_errors"] == {}
    assert {dag_id: dag["file"] for dag_id, dag in described["dags"].items()} == {
        dag_id: f"{dag_id}.py" for dag_id in TASKS
    }


@pytest.mark.parametrize("dag_id", TASKS)
def test_the_tasks_of_a_dag_follow_one_another(described: dict[str, Any], dag_id: str) -> None:
    tasks = TASKS[dag_id]

    assert described["dags"][dag_id]["graph"] == {
        task: tasks[number : number + 1] for number, task in enumerate(tasks, start=1)
    }


@pytest.mark.parametrize("dag_id", TASKS)
def test_a_dag_has_its_tags_its_page_no_retries_and_the_usual_limit_of_runs(
    described: dict[str, Any], dag_id: str
) -> None:
    dag = described["dags"][dag_id]

    assert dag["tags"] == ["example", "svops"]
    assert dag["doc_md"].startswith("### ")
    assert [name for name in dag["params"] if f"`{name}`" not in dag["doc_md"]] == []
    assert dag["retries"] == [0]
    assert dag["max_active_runs"] == 16


@pytest.mark.parametrize("dag_id", TASKS)
def test_every_parameter_is_described_and_its_default_fits_its_schema(described: dict[str, Any], dag_id: str) -> None:
    for param in described["dags"][dag_id]["params"].values():
        assert param["schema"]["title"]
        assert param["schema"]["type"]
        assert param["description"]
        jsonschema.Draft202012Validator.check_schema(param["schema"])
        jsonschema.validate(param["value"], param["schema"])


@pytest.mark.parametrize("dag_id", TASKS)
def test_processing_time_can_be_zero_and_only_tasks_of_the_dag_can_be_made_to_fail(
    described: dict[str, Any], dag_id: str
) -> None:
    params = described["dags"][dag_id]["params"]
    default = {"simple_workflow_example": 30, "data_processing_pipeline": 140, "ml_training_pipeline": 220}

    assert params["processing_time"]["value"] == default[dag_id]
    assert params["processing_time"]["schema"]["minimum"] == 0
    assert params["fail_task"]["value"] is None
    assert params["fail_task"]["schema"]["type"] == ["null", "string"]
    assert params["fail_task"]["schema"]["enum"] == [None, *TASKS[dag_id]]


# Runs


@pytest.mark.parametrize(("dag_id", "failing"), [(dag_id, task) for dag_id, tasks in TASKS.items() for task in tasks])
def test_the_task_named_by_fail_task_fails_and_those_after_it_do_not_start(
    airflow: Probe, dag_id: str, failing: str
) -> None:
    before = airflow.log

    run = airflow.run(dag_id, fail_task=failing)

    tasks = TASKS[dag_id]
    place = tasks.index(failing)
    assert run["state"] == "failed"
    assert run["tasks"] == {
        **dict.fromkeys(tasks[:place], "success"),
        failing: "failed",
        **dict.fromkeys(tasks[place + 1 :], "upstream_failed"),
    }
    said = airflow.log[len(before) :]
    assert f"task '{failing}' fails because the parameter fail_task names it" in said


@pytest.mark.parametrize("dag_id", TASKS)
@pytest.mark.parametrize(
    ("dag_run", "try_number", "first"),
    [
        ({"clear_number": 0}, 1, True),
        # A retry by Airflow itself does not count.
        ({"clear_number": 0}, 2, True),
        ({"clear_number": 1}, 2, False),
        # An Airflow that gives no `clear_number`.
        ({}, 1, True),
        ({"clear_number": None}, 2, False),
    ],
)
def test_a_task_fails_on_purpose_only_in_the_first_attempt_of_a_run(
    airflow: Probe, dag_id: str, dag_run: dict[str, Any], try_number: int, first: bool
) -> None:
    ti = {"try_number": try_number}

    assert airflow.call(f"{dag_id}.is_first_attempt", dag_run=dag_run, ti=ti, as_objects=True) is first


def test_the_simple_workflow_takes_its_time_and_logs_its_progress_and_the_callers_references(
    airflow: Probe,
) -> None:
    run = airflow.run("simple_workflow_example", processing_time=1.5, message="done", task_id=5, dataset_id="d-1")

    assert run["state"] == "success"
    assert run["results"]["processing"] >= 1.5
    assert run["results"]["completion"] == {"message": "done", "seconds": run["results"]["processing"]}
    assert {"processing: 0 of 1.5 s (0 %)", "processing: 1 of 1.5 s (67 %)"} <= set(run["log"])
    assert run["log"].count("caller's task_id: 5") == 3
    assert run["log"].count("caller's dataset_id: 'd-1'") == 3


@pytest.mark.parametrize("ignored", [True, False])
def test_stop_signals_end_processing_unless_the_run_ignores_them(
    airflow_environment: dict[str, str], tmp_path: Path, ignored: bool
) -> None:
    with probing(airflow_environment, log=tmp_path / "probe.log") as probe:
        probe.send(run="simple_workflow_example", conf={"processing_time": 4, "ignore_signals": ignored})
        probe.wait_for_line("processing: 1 of 4 s", seconds=200)
        # Airflow 3 itself lets a task outlive SIGTERM; SIGINT ends one under either.
        probe.process.send_signal(signal.SIGTERM)
        probe.process.send_signal(signal.SIGINT)
        answer = probe.receive()

    succeeded = answer is not None and answer["result"]["state"] == "success"
    assert succeeded == ignored
    assert ("processing: done after" in probe.log) == ignored


def test_the_data_pipeline_loads_every_valid_order_and_rejects_every_bad_one(airflow: Probe) -> None:
    run = airflow.run("data_processing_pipeline", rows=2000, error_rate=0.05, seed=3)

    assert run["state"] == "success"
    report = run["results"]["validate"]
    assert (report["extracted"], report["accepted"], report["rejected"], report["loaded"]) == (
        2000,
        1900,
        100,
        1900,
    )
    assert sorted(report["defects"]) == sorted(DEFECTS)
    assert sum(report["defects"].values()) == 100
    assert report["failed_checks"] == {}
    assert json.loads(Path(report["database"]).with_name("report.json").read_text()) == report
    with contextlib.closing(sqlite3.connect(report["database"])) as database:
        countries = dict(database.execute("SELECT country, sum(eur_cents) FROM orders GROUP BY country"))
    assert report["turnover_eur_cents"] == countries
    assert sorted(countries) == ["AT", "CH", "DE", "GB", "PL"]


def test_the_data_pipeline_fails_in_validate_if_too_many_rows_are_bad(airflow: Probe) -> None:
    before = airflow.log

    run = airflow.run("data_processing_pipeline", rows=1000, error_rate=0.3, max_rejected=0.2)

    tasks = {"extract": "success", "transform": "success", "load": "success", "validate": "failed"}
    assert run["tasks"] == tasks
    assert "not true that few rows are rejected: 300 of 1000 rows" in airflow.log[len(before) :]


@pytest.mark.parametrize("dag_id", ["data_processing_pipeline", "ml_training_pipeline"])
def test_processing_time_lengthens_a_run_and_the_log_shows_its_progress(airflow: Probe, dag_id: str) -> None:
    begun = time.monotonic()

    run = airflow.run(dag_id, processing_time=5, rows=500)

    assert run["state"] == "success"
    assert time.monotonic() - begun >= 5
    first = TASKS[dag_id][0]
    assert [line for line in run["log"] if line.startswith(f"{first}: ") and " of 500 (" in line]


def test_two_runs_write_to_two_folders(airflow: Probe) -> None:
    one, two = (airflow.run("data_processing_pipeline", rows=100)["results"]["extract"]["raw"] for _ in range(2))

    assert one != two
    assert Path(one).exists()
    assert Path(two).exists()


def test_the_model_predicts_customers_it_has_not_seen_far_better_than_guessing(airflow: Probe) -> None:
    run = airflow.run("ml_training_pipeline")

    assert run["state"] == "success"
    report = run["results"]["evaluate"]
    assert (report["train_rows"], report["test_rows"]) == (3000, 1000)
    metrics = report["metrics"]
    assert metrics["rows"] == 1000
    # Always guessing the commoner class is right for 53 % of them; the true probabilities for about 85 %.
    assert metrics["baseline_accuracy"] < 0.56
    assert metrics["accuracy"] > 0.82
    assert metrics["roc_auc"] > 0.9
    assert metrics["log_loss"] < 0.38
    assert json.loads(Path(report["metrics_file"]).read_text()) == metrics


def test_training_finds_the_direction_and_order_of_the_effects_that_made_the_data(airflow: Probe) -> None:
    run = airflow.run("ml_training_pipeline", rows=8000)

    model = json.loads(Path(run["results"]["train"]["model"]).read_text())
    true = [-1.6, 0.8, 1.4, -1.8, 1.2, -0.6]
    assert model["weights"] == pytest.approx(true, abs=0.2)
    assert model["bias"] == pytest.approx(-0.5, abs=0.15)
    assert len(model["losses"]) == 40
    assert model["losses"][-1] < model["losses"][0] < math.log(2)


def test_a_model_below_min_accuracy_fails_the_run_and_leaves_its_metrics(airflow: Probe) -> None:
    before = airflow.log

    run = airflow.run("ml_training_pipeline", rows=400, min_accuracy=1.0)

    assert run["tasks"] == {"prepare": "success", "train": "success", "evaluate": "failed"}
    metrics = json.loads((Path(run["results"]["prepare"]["folder"]) / "metrics.json").read_text())
    assert metrics["rows"] == 100
    expected = f"held-out accuracy {metrics['accuracy']:.3f} is below min_accuracy 1.0"
    assert expected in airflow.log[len(before) :]


# The work itself: orders


def test_the_same_seed_makes_the_same_orders_and_another_seed_makes_others(airflow: Probe) -> None:
    first, again, other = (
        airflow.call("data_processing_pipeline.make_orders", rows=200, seed=seed, error_rate=0.1) for seed in (1, 1, 2)
    )

    assert len(first) == 200
    assert first == again
    assert first != other


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_recognised_by_its_name(airflow: Probe, defect: str) -> None:
    order = airflow.call("data_processing_pipeline.with_defect", order=ORDER, defect=defect)

    assert airflow.call("data_processing_pipeline.defect_of", order=order, seen=["1"]) == defect


def test_a_valid_order_has_no_defect(airflow: Probe) -> None:
    assert airflow.call("data_processing_pipeline.defect_of", order=ORDER, seen=["1"]) is None


@pytest.mark.parametrize("amount", ["", "abc", "0", "0.00", "-1", "NaN", "Infinity"])
def test_an_amount_that_is_no_price_is_a_defect(airflow: Probe, amount: str) -> None:
    order = {**ORDER, "amount": amount}

    assert airflow.call("data_processing_pipeline.defect_of", order=order, seen=[]) == "bad_amount"


@pytest.mark.parametrize(
    ("amount", "currency", "cents"),
    [("10.00", "PLN", "230"), ("10.00", "GBP", "1170"), ("0.05", "CHF", "5"), ("499.99", "EUR", "49999")],
)
def test_prices_become_euro_cents(airflow: Probe, amount: str, currency: str, cents: str) -> None:
    order = {**ORDER, "amount": amount, "currency": currency}

    assert airflow.call("data_processing_pipeline.clean", order=order) == {
        "order_id": "17",
        "day": "2026-02-28",
        "customer": "C0001",
        "country": "PL",
        "eur_cents": cents,
    }


def write_orders(path: Path, *orders: dict[str, str]) -> dict[str, str]:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ORDER))
        writer.writeheader()
        writer.writerows(orders)
    return {"path": str(path)}


class Loaded:
    """Three orders, one of them without a customer, transformed and loaded."""

    def __init__(self, airflow: Probe, folder: Path) -> None:
        self._airflow = airflow
        orders = [{**ORDER, "order_id": number} for number in ("1", "2", "3")]
        orders[1]["customer"] = ""
        self.files = {
            "raw": write_orders(folder / "orders.csv", *orders),
            "accepted": {"path": str(folder / "accepted.csv")},
            "database": {"path": str(folder / "orders.sqlite3")},
        }
        self.rejected = {"path": str(folder / "rejected.csv")}
        self.counts = airflow.call(
            "data_processing_pipeline.transform_file",
            raw=self.files["raw"],
            accepted=self.files["accepted"],
            rejected=self.rejected,
            rows=3,
        )
        self.load()

    def load(self) -> int:
        accepted, database = self.files["accepted"], self.files["database"]
        count: int = self._airflow.call(
            "data_processing_pipeline.load_file", accepted=accepted, database=database, rows=2
        )
        return count

    def tamper(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.files["database"]["path"])) as database, database:
            database.execute(statement)

    def findings(self, *, max_rejected: float = 0.5) -> Any:
        return self._airflow.call(
            "data_processing_pipeline.findings", **self.files, rejected=1, max_rejected=max_rejected
        )


@pytest.fixture
def loaded(airflow: Probe, tmp_path: Path) -> Loaded:
    return Loaded(airflow, tmp_path)


def test_transform_writes_rejected_orders_with_the_reason_to_their_own_file(loaded: Loaded) -> None:
    assert loaded.counts == {"accepted": 2, "rejected": 1, "defects": {"no_customer": 1}}
    with Path(loaded.rejected["path"]).open(newline="") as file:
        assert list(csv.DictReader(file)) == [{**ORDER, "order_id": "2", "customer": "", "defect": "no_customer"}]


def test_loading_again_replaces_the_loaded_orders(loaded: Loaded) -> None:
    assert loaded.load() == 2
    assert loaded.findings() == {}


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM orders WHERE order_id = 1", ["no row is lost", "the turnover agrees"]),
        ("UPDATE orders SET eur_cents = 231 WHERE order_id = 3", ["the turnover agrees"]),
        (
            "UPDATE orders SET eur_cents = CASE order_id WHEN 1 THEN 0 ELSE 460 END",
            ["every order is worth something"],
        ),
    ],
)
def test_validate_notices_a_damaged_database(loaded: Loaded, damage: str, found: list[str]) -> None:
    assert loaded.findings() == {}

    loaded.tamper(damage)

    assert list(loaded.findings()) == found


def test_validate_notices_too_many_rejected_rows(loaded: Loaded) -> None:
    assert loaded.findings(max_rejected=0.3) == {"few rows are rejected": "1 of 3 rows"}


@pytest.mark.parametrize("dag_id", ["data_processing_pipeline", "ml_training_pipeline"])
def test_every_run_id_has_its_own_folder_inside_the_data_folder(
    airflow: Probe, airflow_environment: dict[str, str], dag_id: str
) -> None:
    run_ids = ["a:b", "a+b", "..", "x" * 250, "../../etc"]
    root = Path(airflow_environment["SVOPS_DATA_DIR"]) / f"svops-{dag_id}"

    folders = [Path(airflow.call(f"{dag_id}.run_folder", run_id=run_id)) for run_id in run_ids]

    assert len(set(folders)) == len(run_ids)
    assert {folder.resolve().parent for folder in folders} == {root}
    assert str(folders[0]) == airflow.call(f"{dag_id}.run_folder", run_id="a:b")


@pytest.mark.parametrize("dag_id", ["data_processing_pipeline", "ml_training_pipeline"])
def test_the_next_run_removes_the_folders_of_runs_of_a_week_ago(
    airflow: Probe, airflow_environment: dict[str, str], dag_id: str
) -> None:
    root = Path(airflow_environment["SVOPS_DATA_DIR"]) / f"svops-{dag_id}"
    old, young = (Path(airflow.call(f"{dag_id}.run_folder", run_id=run_id)) for run_id in ("old", "young"))
    (old / "train.csv").write_text("1")
    for folder, days in ((old, 8), (young, 6)):
        age = time.time() - days * 24 * 3600
        os.utime(folder, (age, age))

    run = airflow.run(dag_id)

    assert run["state"] == "success"
    assert (old.exists(), young.exists()) == (False, True)
    assert Path(airflow.call(f"{dag_id}.run_folder", run_id=run["run_id"])).parent == root


def test_without_a_data_folder_each_user_has_their_own(airflow_environment: dict[str, str], tmp_path: Path) -> None:
    environment = {name: value for name, value in airflow_environment.items() if name != "SVOPS_DATA_DIR"}
    with probing(environment | {"TMPDIR": str(tmp_path)}, log=tmp_path / "probe.log") as probe:
        folder = probe.call("ml_training_pipeline.run_folder", run_id="x")

    assert Path(folder).parent == tmp_path / f"svops-{os.getuid()}" / "svops-ml_training_pipeline"


# The work itself: the model


def test_the_scaler_takes_mean_and_deviation_and_leaves_a_constant_feature_finite(airflow: Probe) -> None:
    scaler = airflow.call("ml_training_pipeline.fit_scaler", examples=[[[1, 5], 0], [[3, 5], 1]])

    assert scaler == [[2.0, 5.0], [1.0, 1.0]]


def test_the_same_seed_trains_the_same_model(airflow: Probe) -> None:
    examples = [[[-2.0, 1.0], 0], [[-1.0, 0.0], 0], [[1.0, 1.0], 1], [[2.0, 0.0], 1]]
    settings = {"epochs": 20, "learning_rate": 0.5, "batch_size": 3, "l2": 0.0}

    first, again, other = (
        airflow.call("ml_training_pipeline.train_model", examples=examples, **settings, seed=seed) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_metrics_of_a_small_example_are_exact(airflow: Probe) -> None:
    measured = airflow.call("ml_training_pipeline.measure", predicted=[0.9, 0.8, 0.6, 0.4, 0.1], labels=[1, 0, 1, 1, 0])

    assert measured.pop("log_loss") == pytest.approx(-math.log(0.9 * (1 - 0.8) * 0.6 * 0.4 * (1 - 0.1)) / 5)
    assert measured == pytest.approx(
        {
            "rows": 5,
            "accuracy": 3 / 5,
            "baseline_accuracy": 3 / 5,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "roc_auc": 4 / 6,
        }
    )


@pytest.mark.parametrize(
    ("predicted", "labels", "area"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),
        ([0.3, 0.5, 0.5, 0.9], [0, 0, 1, 1], 3.5 / 4),
        ([0.3, 0.5], [1, 1], None),
    ],
)
def test_area_under_the_curve_counts_ties_half_and_needs_both_kinds(
    airflow: Probe, predicted: list[float], labels: list[int], area: float | None
) -> None:
    assert airflow.call("ml_training_pipeline.roc_auc", predicted=predicted, labels=labels) == area


@pytest.mark.parametrize("x", [-1000.0, 1000.0])
def test_sigmoid_does_not_overflow(airflow: Probe, x: float) -> None:
    assert airflow.call("ml_training_pipeline.sigmoid", x=x) == float(x > 0)
