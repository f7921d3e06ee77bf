"""### Machine learning pipeline

Which customers will leave? `prepare` makes customers and splits them, `train` fits a logistic regression by
mini-batch gradient descent, `evaluate` measures it on customers that it has not seen. Only the standard library.

| parameter | what it does |
| --- | --- |
| `rows`, `seed`, `test_share` | how many customers, which ones, and the share held out for `evaluate` |
| `epochs`, `learning_rate`, `batch_size`, `l2` | how the model is trained |
| `min_accuracy` | held-out accuracy below which `evaluate` fails the run |
| `processing_time` | seconds that the three tasks wait in total, besides their own work |
| `fail_task` | this task fails on purpose; a retry of the run succeeds |

Files are kept in one folder per run, `svops-ml_training_pipeline/<run>` in `SVOPS_DATA_DIR`. A later run removes
folders that are a week old. Without the variable, the folder is `svops-<uid>` in the system's temporary folder. If
tasks run on several machines, `SVOPS_DATA_DIR` must be a shared folder.
If the run's `conf` has the caller's own `task_id` and `dataset_id`, each task logs them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import math
import os
import random
import re
import shutil
import statistics
import tempfile
import time
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pendulum

try:  # Airflow 3
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    # One customer: the features in the order of FEATURES, and 1 if they left.
    Example = tuple[Sequence[float], int]

log = logging.getLogger("airflow.task")

DAG_ID = "ml_training_pipeline"
TASK_IDS = ("prepare", "train", "evaluate")


class Feature(NamedTuple):
    """How a feature is distributed, and how strongly one standard deviation of it drives customers away."""

    mean: float
    deviation: float
    effect: float


FEATURES = {
    "tenure_months": Feature(30, 12, -1.6),
    "monthly_fee": Feature(45, 15, 0.8),
    "support_calls": Feature(3, 1.5, 1.4),
    "logins_per_week": Feature(9, 4, -1.8),
    "late_payments": Feature(1.2, 0.7, 1.2),
    "discount_percent": Feature(8, 5, -0.6),
}
BASE_LOG_ODDS = -0.5
KEEP_DAYS = 7

PARAMS = {
    "rows": Param(4000, type="integer", minimum=200, maximum=100_000, title="Rows", description="Customers to make."),
    "seed": Param(
        7,
        type="integer",
        minimum=0,
        title="Seed",
        description="The same seed and settings make the same customers and the same model.",
    ),
    "test_share": Param(
        0.25,
        type="number",
        minimum=0.1,
        maximum=0.5,
        title="Test share",
        description="Share of the customers that only `evaluate` uses.",
    ),
    "epochs": Param(
        40, type="integer", minimum=1, maximum=1000, title="Epochs", description="Passes over the customers."
    ),
    "learning_rate": Param(
        0.1,
        type="number",
        minimum=0.0001,
        maximum=10,
        title="Learning rate",
        description="Size of a step of the gradient descent.",
    ),
    "batch_size": Param(
        32, type="integer", minimum=1, maximum=4096, title="Batch size", description="Customers per step."
    ),
    "l2": Param(
        0.0005,
        type="number",
        minimum=0,
        maximum=1,
        title="L2",
        description="Strength of the regularization that keeps weights small.",
    ),
    "min_accuracy": Param(
        0.7,
        type="number",
        minimum=0,
        maximum=1,
        title="Least accuracy",
        description="Held-out accuracy below which `evaluate` fails the run.",
    ),
    "processing_time": Param(
        220,
        type="number",
        minimum=0,
        maximum=3600,
        title="Processing time",
        description="Seconds that the three tasks wait in total, besides their own work.",
    ),
    "fail_task": Param(
        None,
        type=["null", "string"],
        enum=[None, *TASK_IDS],
        title="Task that fails",
        description=(
            "This task fails on purpose in the first attempt of the run; a retry of the run succeeds. With null, all "
            "tasks succeed."
        ),
    ),
}


class RequestedFailureError(RuntimeError):
    """The parameters of the run ask this task to fail."""


class ModelTooWeakError(RuntimeError):
    """The model is not as good as the parameters of the run require."""


def begin(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Log the caller's references and return the parameters. Raise if this task has to fail."""
    conf = context["dag_run"].conf or {}
    for name in ("task_id", "dataset_id"):
        if name in conf:
            log.info("caller's %s: %r", name, conf[name])
    params: Mapping[str, Any] = context["params"]
    task_id = context["ti"].task_id
    if params["fail_task"] == task_id and is_first_attempt(context["dag_run"], context["ti"]):
        raise RequestedFailureError(f"task {task_id!r} fails because the parameter fail_task names it")
    return params


def is_first_attempt(dag_run: Any, ti: Any) -> bool:
    """Return whether no task of the run has been cleared yet; a retry clears tasks."""
    cleared = getattr(dag_run, "clear_number", None)
    return ti.try_number <= 1 if cleared is None else cleared == 0


def run_folder(run_id: str) -> Path:
    """Return the folder of the run. A task that runs again gets the same one."""
    # The digest separates ids that differ only in characters that a file name should not have.
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', run_id)[:100]}-{digest}"
    folder = data_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_folder() -> Path:
    """Return the parent of the folders of all runs. By default, users do not share it."""
    root = os.environ.get("SVOPS_DATA_DIR") or Path(tempfile.gettempdir()) / f"svops-{os.getuid()}"
    folder = Path(root) / f"svops-{DAG_ID}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_old_runs() -> None:
    """Remove the folders of runs that have not changed for a week."""
    for folder in data_folder().iterdir():
        # Another run may remove the same folder at the same moment.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > KEEP_DAYS * 24 * 3600:
                shutil.rmtree(folder, ignore_errors=True)


def paced(items: Iterable[Any], *, total: int, seconds: float, what: str) -> Iterator[Any]:
    """Yield `total` items over `seconds` or longer, with a line of progress about once a second."""
    begun = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        due = begun + seconds * number / total
        while True:
            now = time.monotonic()
            if now - said >= 1:
                log.info("%s: %d of %d (%.0f %%)", what, number, total, 100 * number / total)
                said = now
            # Rows are shorter than a sleep can be: run ahead a little, except at the end.
            if due - now <= (0.1 if number < total else 0):
                break
            time.sleep(min(1.0, due - now))
    log.info("%s: %d done in %.1f s", what, total, time.monotonic() - begun)


def sigmoid(x: float) -> float:
    # exp of a large positive number would overflow.
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def make_customers(*, rows: int, seed: int) -> Iterator[Example]:
    """Yield customers who leave with the probability that their features give; no model is always right."""
    chance = random.Random(seed)  # noqa: S311 - sample data, not a secret
    for _ in range(rows):
        deviations = [chance.gauss(0, 1) for _ in FEATURES]
        values = [f.mean + f.deviation * z for f, z in zip(FEATURES.values(), deviations)]  # noqa: B905 - Python 3.9
        effects = (feature.effect for feature in FEATURES.values())
        left = chance.random() < sigmoid(BASE_LOG_ODDS + sum(map(mul, effects, deviations)))
        yield values, int(left)


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write the customers. The file appears only when it is complete."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FEATURES, "left"])
        writer.writerows([*values, left] for values, left in examples)
    unfinished.replace(path)


def read_examples(path: Path) -> list[Example]:
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [([float(value) for value in row[:-1]], int(row[-1])) for row in rows]


class Scaler(NamedTuple):
    """Mean and deviation of each feature in the training data."""

    means: list[float]
    deviations: list[float]

    def scale(self, examples: Iterable[Example]) -> list[Example]:
        return [(self._one(values), label) for values, label in examples]

    def _one(self, values: Sequence[float]) -> list[float]:
        pairs = zip(values, self.means, self.deviations)  # noqa: B905 - Python 3.9
        return [(value - mean) / deviation for value, mean, deviation in pairs]


def fit_scaler(examples: Sequence[Example]) -> Scaler:
    columns = list(zip(*(values for values, _ in examples)))  # noqa: B905 - Python 3.9
    # A feature that never varies is only shifted, not divided by zero.
    deviations = [statistics.pstdev(column) or 1.0 for column in columns]
    return Scaler([statistics.fmean(column) for column in columns], deviations)


class Model(NamedTuple):
    weights: list[float]
    bias: float

    def probability(self, values: Iterable[float]) -> float:
        return sigmoid(self.bias + sum(map(mul, self.weights, values)))


def step(model: Model, batch: Sequence[Example], *, learning_rate: float, l2: float) -> Model:
    """One step down the gradient of the batch's mean log loss."""
    errors = [model.probability(values) - label for values, label in batch]
    columns = zip(*(values for values, _ in batch))  # noqa: B905 - Python 3.9
    slopes = [sum(map(mul, errors, column)) / len(batch) for column in columns]
    pairs = zip(model.weights, slopes)  # noqa: B905 - Python 3.9
    weights = [weight - learning_rate * (slope + l2 * weight) for weight, slope in pairs]
    return Model(weights, model.bias - learning_rate * sum(errors) / len(batch))


def train_epoch(
    model: Model,
    examples: Sequence[Example],
    *,
    batch_size: int,
    learning_rate: float,
    l2: float,
    order: list[int],
) -> Model:
    for start in range(0, len(order), batch_size):
        batch = [examples[index] for index in order[start : start + batch_size]]
        model = step(model, batch, learning_rate=learning_rate, l2=l2)
    return model


def train_model(
    examples: Sequence[Example],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    l2: float,
    seed: int,
    seconds: float = 0,
) -> tuple[Model, list[float]]:
    """Fit scaled examples, over `seconds` or longer; return the model and the log loss after each epoch."""
    chance = random.Random(seed)  # noqa: S311 - the order of examples, not a secret
    model = Model([0.0] * len(examples[0][0]), 0.0)
    losses = []
    order = list(range(len(examples)))
    for epoch in paced(range(1, epochs + 1), total=epochs, seconds=seconds, what="train: epoch"):
        chance.shuffle(order)
        model = train_epoch(model, examples, batch_size=batch_size, learning_rate=learning_rate, l2=l2, order=order)
        losses.append(log_loss(probabilities(model, examples), labels_of(examples)))
        log.info("train: loss after epoch %d of %d: %.4f", epoch, epochs, losses[-1])
    return model, losses


def probabilities(model: Model, examples: Iterable[Example]) -> list[float]:
    return [model.probability(values) for values, _ in examples]


def labels_of(examples: Iterable[Example]) -> list[int]:
    return [label for _, label in examples]


def log_loss(predicted: Sequence[float], labels: Sequence[int]) -> float:
    """Return the mean negative log likelihood. A certain but wrong prediction costs much, but not infinitely much."""
    tiny = 1e-15
    chances = (p if label else 1 - p for p, label in zip(predicted, labels))  # noqa: B905 - Python 3.9
    return -statistics.fmean(math.log(max(chance, tiny)) for chance in chances)


def roc_auc(predicted: Sequence[float], labels: Sequence[int]) -> float | None:
    """Return the chance that one who left is rated above one who stayed; ties count half. None without both kinds."""
    left = sum(labels)
    stayed = len(labels) - left
    if not left or not stayed:
        return None
    ranked = sorted(zip(predicted, labels))  # noqa: B905 - Python 3.9
    ranks, first = 0.0, 0
    while first < len(ranked):
        last = first
        while last + 1 < len(ranked) and ranked[last + 1][0] == ranked[first][0]:
            last += 1
        ranks += (first + last + 2) / 2 * sum(label for _, label in ranked[first : last + 1])
        first = last + 1
    return (ranks - left * (left + 1) / 2) / (left * stayed)


def measure(predicted: Sequence[float], labels: Sequence[int]) -> dict[str, Any]:
    """Return the usual metrics of a classifier. `baseline_accuracy` is that of always guessing the commoner class."""
    said = [int(p >= 0.5) for p in predicted]
    pairs = list(zip(said, labels))  # noqa: B905 - Python 3.9
    hits, false_alarms, misses = pairs.count((1, 1)), pairs.count((1, 0)), pairs.count((0, 1))
    share = statistics.fmean(labels)
    return {
        "rows": len(labels),
        "accuracy": (hits + pairs.count((0, 0))) / len(pairs),
        "baseline_accuracy": max(share, 1 - share),
        "precision": hits / (hits + false_alarms) if hits + false_alarms else 0.0,
        "recall": hits / (hits + misses) if hits + misses else 0.0,
        "f1": 2 * hits / (2 * hits + false_alarms + misses) if hits + false_alarms + misses else 0.0,
        "log_loss": log_loss(predicted, labels),
        "roc_auc": roc_auc(predicted, labels),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> str:
    path.write_text(json.dumps(content, indent=2))
    return str(path)


@dag(
    dag_id=DAG_ID,
    description="A logistic regression, trained and measured on customers it has not seen",
    doc_md=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 0},
    params=PARAMS,
    tags=["svops", "example"],
)
def ml_training_pipeline() -> None:
    # The tasks get a quarter, a half and a quarter of the processing time.

    @task(multiple_outputs=False)
    def prepare(**context: Any) -> dict[str, Any]:
        params = begin(context)
        rows = int(params["rows"])
        customers = make_customers(rows=rows, seed=int(params["seed"]))
        made = list(paced(customers, total=rows, seconds=params["processing_time"] / 4, what="prepare"))
        held_out = round(rows * params["test_share"])
        forget_old_runs()
        folder = run_folder(context["run_id"])
        write_examples(folder / "test.csv", made[:held_out])
        write_examples(folder / "train.csv", made[held_out:])
        log.info("prepare: %d customers to train on, %d held out", rows - held_out, held_out)
        return {"folder": str(folder), "train_rows": rows - held_out, "test_rows": held_out}

    @task(multiple_outputs=False)
    def train(report: dict[str, Any], **context: Any) -> dict[str, Any]:
        params = begin(context)
        folder = Path(report["folder"])
        examples = read_examples(folder / "train.csv")
        scaler = fit_scaler(examples)
        model, losses = train_model(
            scaler.scale(examples),
            epochs=int(params["epochs"]),
            learning_rate=params["learning_rate"],
            batch_size=int(params["batch_size"]),
            l2=params["l2"],
            seed=int(params["seed"]),
            seconds=params["processing_time"] / 2,
        )
        saved = {"features": list(FEATURES), **model._asdict(), "scaler": scaler._asdict(), "losses": losses}
        return {**report, "model": write_json(folder / "model.json", saved), "train_loss": losses[-1]}

    @task(multiple_outputs=False)
    def evaluate(report: dict[str, Any], **context: Any) -> dict[str, Any]:
        params = begin(context)
        saved = json.loads(Path(report["model"]).read_text())
        model = Model(saved["weights"], saved["bias"])
        folder = Path(report["folder"])
        examples = Scaler(**saved["scaler"]).scale(read_examples(folder / "test.csv"))
        predicted = [
            model.probability(values)
            for values, _ in paced(
                examples, total=len(examples), seconds=params["processing_time"] / 4, what="evaluate"
            )
        ]
        metrics = measure(predicted, labels_of(examples))
        log.info("evaluate: %s", metrics)
        path = write_json(folder / "metrics.json", metrics)
        if metrics["accuracy"] < params["min_accuracy"]:
            raise ModelTooWeakError(
                f"held-out accuracy {metrics['accuracy']:.3f} is below min_accuracy {params['min_accuracy']}"
            )
        return {**report, "metrics_file": path, "metrics": metrics}

    evaluate(train(prepare()))


ml_training_pipeline()
