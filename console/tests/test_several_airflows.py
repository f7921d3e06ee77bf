"""The name of an Airflow stands on the page where there is more than one, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from console.tests.screen import node, open_trigger, place_of, sign_in
from console.tests.site import Site
from workflows import gateway
from workflows.models import Airflow, Dag, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import dag_task, new_run


@pytest.fixture
def there(nightly: Workflow) -> Iterator[Workflow]:
    """A workflow over a DAG of the same dag_id, with other tasks, in another Airflow."""
    prod = Airflow.objects.create(name="prod", options={"url": "http://127.0.0.1:9"}, looked_at=timezone.now())
    dag = Dag.objects.create(
        airflow=prod, dag_id=nightly.dag.dag_id, tasks=[dag_task("copy")], synced_at=timezone.now()
    )
    workflow = Workflow.objects.create(name="There", dag=dag, owner=nightly.owner)
    yield workflow
    Run.objects.filter(airflow=prod).delete()
    workflow.delete()
    dag.delete()
    prod.delete()


def run_there(workflow: Workflow, state: RunState = RunState.RUNNING) -> Run:
    run = new_run(workflow, state)
    Run.objects.filter(pk=run.pk).update(airflow="prod")
    return Run.objects.get(pk=run.pk)


def test_with_one_airflow_no_name_is_shown(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)

    sign_in(page, site, nightly.owner)

    expect(page.locator(f"tr[data-run='{run.pk}']")).to_be_visible()
    expect(page.get_by_text("in default")).to_have_count(0)


def test_workflows_and_runs_name_their_airflow(page: Page, site: Site, nightly: Workflow, there: Workflow) -> None:
    here, elsewhere = new_run(nightly, RunState.RUNNING), run_there(there)

    sign_in(page, site, nightly.owner)

    for workflow, run, name in ((nightly, here, "in default"), (there, elsewhere, "in prod")):
        expect(page.locator(f"[data-workflow='{workflow.pk}']")).to_contain_text(name)
        expect(page.locator(f"tr[data-run='{run.pk}']")).to_contain_text(name)


def test_a_run_is_shown_with_the_tasks_of_its_own_dag(page: Page, site: Site, there: Workflow) -> None:
    sign_in(page, site, there.owner, place_of(run_there(there)))

    expect(node(page, "copy")).to_be_visible()
    expect(node(page, "extract")).to_have_count(0)
    expect(page.locator(".facts").first).to_contain_text("prod")


def test_the_form_asks_for_the_parameters_of_its_own_dag(page: Page, site: Site, there: Workflow) -> None:
    sign_in(page, site, there.owner)
    open_trigger(page, there)

    expect(page.locator("dialog [data-parameter='rows']")).to_have_count(0)


def test_old_states_say_which_airflow_they_are_from(page: Page, site: Site, nightly: Workflow, there: Workflow) -> None:
    new_run(nightly, RunState.RUNNING)
    run_there(there)
    Airflow.objects.filter(name="prod").update(looked_at=None)

    sign_in(page, site, nightly.owner)

    expect(page.locator("#banner")).to_contain_text("SVOps has no news from the Airflow prod.")


def test_of_two_airflows_that_do_not_answer_the_one_that_is_back_is_not_named(
    page: Page, site: Site, nightly: Workflow, there: Workflow
) -> None:
    new_run(nightly, RunState.RUNNING)
    run_there(there)
    Airflow.objects.update(looked_at=timezone.now())
    sign_in(page, site, nightly.owner)
    expect(page.locator(f"[data-workflow='{there.pk}']")).to_contain_text("in prod")
    banner = page.locator("#banner")

    gateway.record_down("prod", reason="refused", now=timezone.now())
    expect(banner).to_contain_text("The Airflow prod does not answer.")
    gateway.record_down(DEFAULT, reason="refused", now=timezone.now())
    expect(banner).to_contain_text("The Airflows default and prod do not answer.")
    gateway.record_up("prod", version="3.3.2", now=timezone.now())
    expect(banner).to_contain_text("The Airflow default does not answer.")
    gateway.record_up(DEFAULT, version="3.3.2", now=timezone.now())

    expect(banner).to_be_hidden()


def test_news_of_an_airflow_name_it(page: Page, site: Site, nightly: Workflow, there: Workflow) -> None:
    run_there(there)
    sign_in(page, site, nightly.owner)
    expect(page.locator(f"[data-workflow='{there.pk}']")).to_contain_text("in prod")

    gateway.record_down("prod", reason="refused", now=timezone.now())
    expect(page.locator("#banner")).to_contain_text("The Airflow prod does not answer.")
    gateway.record_up("prod", version="3.3.2", now=timezone.now())

    expect(page.locator("#toasts")).to_contain_text("The Airflow prod answers again.")
