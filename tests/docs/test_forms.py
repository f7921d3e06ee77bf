"""The forms for issues, and the workflow that runs the gate."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.docs.test_pages import REPOSITORY

GITHUB = REPOSITORY / ".github"


def loaded(path: str) -> Any:
    return yaml.safe_load((GITHUB / path).read_text())


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_a_form_has_what_the_hosting_page_asks_for(name: str) -> None:
    form = loaded(f"ISSUE_TEMPLATE/{name}.yml")
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]

    assert form.keys() == {"name", "description", "labels", "body"}
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in fields)
    assert all(field["attributes"]["options"] for field in fields if field["type"] == "dropdown")


def test_the_workflow_runs_the_gate_on_the_oldest_and_the_newest_python() -> None:
    job = loaded("workflows/ci.yml")["jobs"]["gate"]

    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
