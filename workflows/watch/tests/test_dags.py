"""The sync of DAGs whose authors wrote something odd: one bad DAG or file harms no other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from rest.errors import BusyError
from workflows import services, tasks
from workflows.airflow.errors import AirflowUnavailableError
from workflows.airflow.tests.scripted import Hold, Reply
from workflows.dispatch.tests.steps import trigger
from workflows.models import Airflow, Dag, DagFileError, Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import NOW, StagedAirflow, at
from workflows.watch.dags import SyncResult, sync_dags

pytestmark = pytest.mark.django_db(transaction=True)


def put_dag(airflow: StagedAirflow, dag_id: str, *, folder: str = "", bundle: str = "dags-folder") -> dict[str, Any]:
    """Let Airflow have one more DAG, like `etl`, in this folder of this bundle. Return what it shows of it."""
    dag = deepcopy(airflow.dags["etl"])
    file = {"relative_fileloc": f"{folder}{dag_id}.py", "fileloc": f"/opt/{folder}{dag_id}.py", "bundle_name": bundle}
    dag["listed"] |= {"dag_id": dag_id, **file}
    dag["details"] |= {"dag_id": dag_id, **file}
    airflow.dags[dag_id] = dag
    return dag


def put_param(dag: dict[str, Any], name: str, value: Any = None, **schema: Any) -> None:
    dag["details"]["params"][name] = {"value": value, "schema": schema, "description": None}


def put_error(airflow: StagedAirflow, filename: str, text: str, *, bundle: str | None = "dags-folder") -> None:
    error = {"import_error_id": 1, "timestamp": None, "bundle_name": bundle}
    airflow.import_errors = [*airflow.import_errors, {**error, "filename": filename, "stack_trace": text}]


def sync() -> SyncResult:
    return sync_dags(DEFAULT, now=NOW)


def reason(dag_id: str) -> str:
    return Dag.objects.get(dag_id=dag_id).unusable_reason


def import_errors() -> list[tuple[str, list[str], str]]:
    """Return (filename, dag_ids, error) of each event about an import error."""
    found = Event.objects.filter(type="dag.import_error").order_by("id").values_list("data", flat=True)
    return [(data["filename"], data["dag_ids"], data["error"]) for data in found]


# --- DAGs that cannot be understood --------------------------------------------------------------------------

NO_SCHEMA = "The parameter 'name' has no valid JSON schema:"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "str"}, f"{NO_SCHEMA} 'str' is not valid under any of the given schemas (at type)."),
        ({"type": "string", "pattern": "("}, f"{NO_SCHEMA} '(' is not a 'regex' (at pattern)."),
        ({"enum": 5}, f"{NO_SCHEMA} 5 is not of type 'array' (at enum)."),
        (
            {"properties": {"a": {"type": "str"}}},
            f"{NO_SCHEMA} 'str' is not valid under any of the given schemas (at properties.a.type).",
        ),
        ({"multipleOf": 0}, f"{NO_SCHEMA} 0 is less than or equal to the minimum of 0 (at multipleOf)."),
        ({"$schema": ["x"]}, f"{NO_SCHEMA} its $schema is not a string."),
        ({"$ref": "#"}, "The schema of the parameter 'name' cannot be used: "),
        ({"$ref": "#/$defs/none"}, "The schema of the parameter 'name' cannot be used: "),
        ({"$ref": "http://127.0.0.1:9/schema"}, "The schema of the parameter 'name' cannot be used: "),
        ({"enum": ["a\x00b"]}, "Its parameters have a NUL character, half a character, NaN or Infinity."),
        ({"maximum": float("inf")}, "Its parameters have a NUL character, half a character, NaN or Infinity."),
    ],
    ids=str,
)
def test_a_dag_whose_parameters_cannot_be_checked_is_marked_and_the_others_go_on(
    airflow: StagedAirflow, schema: dict[str, Any], expected: str
) -> None:
    put_param(put_dag(airflow, "bad"), "name", **schema)
    put_dag(airflow, "new")

    done = sync()

    assert (done.seen, done.unusable) == (["etl", "bad", "new"], ["bad"])
    assert reason("bad").startswith(expected)
    assert (reason("etl"), reason("new")) == ("", "")
    assert Dag.objects.get(dag_id="new").params_schema["properties"]


@pytest.mark.parametrize(
    ("part", "damage", "expected"),
    [
        ("listed", {"tags": "nightly"}, "DAG: tags should be a list, got str"),
        ("listed", {"owners": [None]}, "DAG: owners should be a list of strings, got list"),
        ("details", {"doc_md": ["# ETL"]}, "DAG: doc_md should be a string, got list"),
        ("details", {"params": ["rows"]}, "DAG: params should be an object, got list"),
        (
            "details",
            {"params": {"rows": {"value": 1, "schema": 5, "description": None}}},
            "DAG parameter: schema should be an object, got int",
        ),
        (
            "details",
            {"params": {"svops": {"value": 1, "schema": {}, "description": None}}},
            "The DAG declares a parameter 'svops'. SVOps uses this name itself.",
        ),
    ],
    ids=str,
)
def test_a_dag_with_a_field_of_a_wrong_type_is_marked_and_the_others_go_on(
    airflow: StagedAirflow, part: str, damage: dict[str, Any], expected: str
) -> None:
    put_dag(airflow, "bad")[part] |= damage

    done = sync()

    assert (done.seen, done.unusable, reason("bad")) == (["etl", "bad"], ["bad"], expected)
    assert reason("etl") == ""


def test_a_task_graph_that_cannot_be_read_marks_its_dag(airflow: StagedAirflow) -> None:
    put_dag(airflow, "bad")["tasks"] = [{"task_id": "one", "downstream_task_ids": "two"}]

    assert sync().unusable == ["bad"]

    assert reason("bad") == "task: downstream_task_ids should be a list, got str"


def test_a_marked_dag_keeps_its_last_parameters_and_follows_what_can_be_read(airflow: StagedAirflow) -> None:
    dag = put_dag(airflow, "mine")
    sync()
    before = Dag.objects.get(dag_id="mine")
    put_param(dag, "name", type="str")
    dag["listed"]["is_paused"] = True

    done = sync()

    after = Dag.objects.get(dag_id="mine")
    assert done.changed == ["mine"]
    assert (after.is_paused, after.params_schema, after.tasks) == (True, before.params_schema, before.tasks)
    event = Event.objects.latest("id")
    assert (event.type, event.data) == (
        "dag.synced",
        {"airflow": "default", "dag_id": "mine", "changed": ["is_paused", "unusable_reason"]},
    )
    assert sync().changed == []


def test_a_mended_dag_can_be_used_again(airflow: StagedAirflow, nightly: Workflow) -> None:
    put_param(airflow.dags["etl"], "name", type="str")
    sync()
    with pytest.raises(services.WorkflowInactiveError, match=r"^SVOps cannot use the DAG etl: The parameter"):
        trigger(Workflow.objects.get())
    assert not Run.objects.exists()

    put_param(airflow.dags["etl"], "name", "x", type="string")
    assert (sync().changed, reason("etl")) == (["etl"], "")

    assert trigger(Workflow.objects.get()).state == "queued"


def test_the_sync_task_survives_a_bad_dag(airflow: StagedAirflow) -> None:
    put_param(put_dag(airflow, "bad"), "name", type="str")

    tasks.sync_dags()

    assert set(Dag.objects.values_list("dag_id", flat=True)) == {"bad", "etl"}


def test_text_that_a_database_refuses_is_stored_with_replacements(airflow: StagedAirflow) -> None:
    dag = put_dag(airflow, "odd")
    dag["listed"] |= {"description": "a\x00b", "tags": [{"name": "\ud800"}], "timetable_summary": "x" * 300}
    dag["listed"] |= {"max_active_runs": 2**40, "fileloc": "/" + "f" * 1500}
    dag["details"]["doc_md"] = "\x00"

    assert sync().unusable == []

    stored = Dag.objects.get(dag_id="odd")
    assert (stored.description, stored.tags, stored.doc_md) == ("a\ufffdb", ["\ufffd"], "\ufffd")
    assert (len(stored.timetable_summary), len(stored.fileloc), stored.max_active_runs) == (250, 1000, 2**31 - 1)


def test_a_dag_that_airflow_itself_cannot_show_is_marked_if_it_is_new(airflow: StagedAirflow) -> None:
    put_dag(airflow, "bad")
    airflow.answers["GET", "/dags/bad/details"] = lambda _: Reply(500, {"detail": "NaN"})

    assert (sync().unusable, reason("bad")) == (["bad"], "Airflow cannot show its details: NaN")

    del airflow.answers["GET", "/dags/bad/details"]
    assert sync().unusable == []
    airflow.answers["GET", "/dags/bad/details"] = lambda _: Reply(500, {"detail": "NaN"})
    assert (sync().unusable, sync().changed) == ([], [])


@pytest.mark.parametrize("status", [429, 503])
def test_an_airflow_that_says_not_now_ends_the_sync_and_marks_nothing(airflow: StagedAirflow, status: int) -> None:
    put_dag(airflow, "later")
    airflow.answers["GET", "/dags/later/details"] = lambda _: Reply(status, {"detail": "later"})

    with pytest.raises(AirflowUnavailableError):
        sync()

    assert not Dag.objects.exists()


def test_a_dag_that_is_deleted_during_the_sync_is_gone(airflow: StagedAirflow) -> None:
    put_dag(airflow, "gone")
    sync()
    airflow.answers["GET", "/dags/gone/details"] = lambda _: Reply(404, {"detail": "Dag with id gone was not found"})

    done = sync()

    assert (done.seen, done.vanished) == (["etl"], ["gone"])


# --- Files that cannot be imported ----------------------------------------------------------------------------


def test_the_error_of_a_file_is_not_that_of_a_file_with_its_name_in_another_folder(airflow: StagedAirflow) -> None:
    put_dag(airflow, "x", folder="team_a/")
    put_dag(airflow, "tidy_x")
    put_error(airflow, "x.py", "SyntaxError")

    assert sync().import_errors == []

    assert not Dag.objects.exclude(import_error="").exists()
    assert import_errors() == [("x.py", [], "SyntaxError")]


def test_the_error_of_a_file_is_not_that_of_the_same_path_in_another_bundle(airflow: StagedAirflow) -> None:
    put_dag(airflow, "x", bundle="sound")
    put_dag(airflow, "y", bundle="broken")["listed"]["relative_fileloc"] = "x.py"
    put_error(airflow, "x.py", "SyntaxError", bundle="broken")

    assert sync().import_errors == ["y"]

    assert import_errors() == [("x.py", ["y"], "SyntaxError")]


def test_airflow_2_names_a_file_from_the_root(airflow: StagedAirflow) -> None:
    for dag_id, folder in (("x", "dags/"), ("x2", "dags/team/")):
        listed = put_dag(airflow, dag_id, folder=folder)["listed"]
        listed |= {"bundle_name": None, "relative_fileloc": None, "fileloc": f"/opt/{folder}x.py"}
    put_error(airflow, "/opt/dags/x.py", "SyntaxError", bundle=None)

    assert sync().import_errors == ["x"]


def test_a_file_that_never_parsed_is_reported_once_and_again_when_its_error_changes(airflow: StagedAirflow) -> None:
    put_error(airflow, "never.py", "RuntimeError: one <object at 0x7f01aa22bb30>")
    sync()
    airflow.import_errors = []
    put_error(airflow, "never.py", "RuntimeError: one <object at 0x7f99aa22bb30>")
    sync()
    assert import_errors() == [("never.py", [], "RuntimeError: one <object at 0x…>")]

    airflow.import_errors = []
    put_error(airflow, "never.py", "RuntimeError: two")
    sync()
    sync()

    assert [error for _, _, error in import_errors()][1:] == ["RuntimeError: two"]
    assert DagFileError.objects.get().error == "RuntimeError: two"


def test_a_mended_file_that_breaks_again_is_reported_again(airflow: StagedAirflow) -> None:
    put_error(airflow, "etl.py", "SyntaxError")
    assert sync().import_errors == ["etl"]
    broken, airflow.import_errors = airflow.import_errors, []

    assert (sync().import_errors, DagFileError.objects.count()) == ([], 0)
    assert Dag.objects.get().import_error == ""

    airflow.import_errors = broken
    sync_dags(DEFAULT, now=NOW + timedelta(minutes=1))
    assert import_errors() == [("etl.py", ["etl"], "SyntaxError")] * 2


def test_a_file_with_several_dags_is_one_event(airflow: StagedAirflow) -> None:
    put_dag(airflow, "other")["listed"]["relative_fileloc"] = "etl.py"
    put_error(airflow, "etl.py", "SyntaxError")

    assert sync().import_errors == ["etl", "other"]

    assert import_errors() == [("etl.py", ["etl", "other"], "SyntaxError")]


# --- What a sync costs ---------------------------------------------------------------------------------------


def put_version(airflow: StagedAirflow, dag_id: str, number: int) -> None:
    airflow.versions.append({"dag_id": dag_id, "version_number": number})


def read_by(airflow: StagedAirflow, second: float, *, whole: bool = False) -> list[str]:
    """Sync, and return the DAGs whose parameters were read."""
    airflow.requests.clear()
    sync_dags(DEFAULT, now=at(second), whole=whole)
    return [path.split("/")[2] for _, path in airflow.calls if path.endswith("/details")]


@pytest.fixture
def many(airflow: StagedAirflow) -> list[str]:
    """A hundred and fifty DAGs, each with a version, that a sync has read."""
    dag_ids = [f"dag_{number:03}" for number in range(150)]
    for dag_id in dag_ids:
        put_dag(airflow, dag_id)
        put_version(airflow, dag_id, 1)
    read_by(airflow, 0)
    return ["dag_000", *dag_ids[1:], "etl"]


def test_an_unchanged_dag_is_read_in_turn_and_a_sync_costs_the_same_however_many_there_are(
    airflow: StagedAirflow, many: list[str]
) -> None:
    with CaptureQueriesContext(connection) as queries:
        turns = [read_by(airflow, 60)]
    calls = len(airflow.calls)
    turns += [read_by(airflow, 60 * number) for number in range(2, 9)]

    # Two pages of DAGs and of versions, the import errors, and two requests for each DAG that is read.
    assert calls <= 5 + 2 * 20
    assert len(queries) <= 30
    assert [len(turn) for turn in turns] == [20] * 8
    assert {dag_id for turn in turns for dag_id in turn} == set(many)


def test_a_dag_that_airflow_has_not_parsed_since_is_not_read(airflow: StagedAirflow, many: list[str]) -> None:
    for dag in airflow.dags.values():
        dag["listed"]["last_parsed_time"] = at(0).isoformat()
    read_by(airflow, 100, whole=True)
    airflow.dags["dag_007"]["listed"]["last_parsed_time"] = at(110).isoformat()

    assert read_by(airflow, 120) == ["dag_007"]


@pytest.mark.parametrize(
    "change",
    [
        lambda airflow: put_version(airflow, "dag_120", 2),
        lambda airflow: airflow.dags["dag_120"]["listed"].update(description="Another one"),
        lambda airflow: airflow.dags["dag_120"]["listed"].update(tags=[{"name": "new"}]),
        lambda airflow: airflow.dags["dag_120"]["listed"].update(max_active_runs=3),
    ],
    ids=["version", "description", "tags", "max_active_runs"],
)
def test_a_changed_dag_is_read_by_the_next_sync(
    airflow: StagedAirflow, many: list[str], change: Callable[[StagedAirflow], None]
) -> None:
    read_by(airflow, 60)
    change(airflow)
    put_param(airflow.dags["dag_120"], "size", 3, type="integer")

    assert read_by(airflow, 120)[0] == "dag_120"
    assert "size" in Dag.objects.get(dag_id="dag_120").params_schema["properties"]
    assert "dag_120" not in read_by(airflow, 180)


def test_a_sync_that_somebody_asks_for_reads_every_dag(airflow: StagedAirflow, many: list[str]) -> None:
    assert sorted(read_by(airflow, 60, whole=True)) == sorted(many)


def test_a_paused_dag_is_stored_without_being_read(airflow: StagedAirflow, many: list[str]) -> None:
    airflow.dags["dag_120"]["listed"]["is_paused"] = True

    assert "dag_120" not in read_by(airflow, 60)
    assert Dag.objects.get(dag_id="dag_120").is_paused


@pytest.mark.parametrize("status", [403, 404])
def test_without_the_versions_the_sync_goes_on(airflow: StagedAirflow, many: list[str], status: int) -> None:
    airflow.answers["GET", "/dags/~/dagVersions"] = lambda request: Reply(status, {"detail": "no"})

    assert len(read_by(airflow, 60)) == 20


def test_versions_are_read_back_to_those_that_are_known(airflow: StagedAirflow, many: list[str]) -> None:
    for _ in range(500):
        put_version(airflow, "gone", 1)
    for dag_id in many[:130]:
        put_version(airflow, dag_id, 2)

    read = read_by(airflow, 60)

    assert set(many[:130]) <= set(read)
    # One page of new ones, one with the last of them, and one of known ones.
    assert airflow.calls.count(("GET", "/dags/~/dagVersions")) == 3


def test_a_sync_that_somebody_asks_for_waits_for_the_one_that_goes_on(airflow: StagedAirflow) -> None:
    held = Hold()
    airflow.next_api_calls.append(held)

    def first() -> list[str]:
        try:
            return sync_dags(DEFAULT, now=timezone.now()).seen
        finally:
            connection.close()

    def second() -> list[str]:
        try:
            return sync_dags(DEFAULT, now=timezone.now(), whole=True).seen
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        going_on = pool.submit(first)
        assert held.arrived.wait(20)
        waiting = pool.submit(second)
        held.released.set()

        assert (going_on.result(60), waiting.result(60)) == (["etl"], ["etl"])
    # The second began when the first had asked for all.
    of_one = len(airflow.calls) // 2
    assert airflow.calls[0] == airflow.calls[of_one] == ("GET", "/dags")
    assert airflow.calls[of_one - 1] == ("GET", "/importErrors")


def test_two_syncs_at_once_are_one(airflow: StagedAirflow, etl: Dag) -> None:
    Airflow.default()
    Airflow.objects.update(dags_leased_until=timezone.now() + timedelta(seconds=60))

    with pytest.raises(BusyError):
        sync_dags(DEFAULT, now=timezone.now())
    tasks.sync_dags()

    assert airflow.calls == []
    Airflow.objects.update(dags_leased_until=None)
    assert sync_dags(DEFAULT, now=timezone.now()).seen == ["etl"]
    assert Airflow.default().dags_leased_until is None
