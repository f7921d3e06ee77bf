"""The console in a real browser, against a real web process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect, sync_playwright
from pytest_django import DjangoDbBlocker, Settings

from accounts.models import Role, User
from accounts.tests import provider as identity
from accounts.tests.provider import Provider
from conftest import AirflowServer
from workflows import dag_sync, handover, reconcile, services, upstream
from workflows.models import AirflowState, Dag, Run, TriggerType, Visibility, Workflow
from workflows.observe import Sight, observe, reopen
from workflows.states import TERMINAL, RunState
from workflows.tests.console_site import Site, own_database, until
from workflows.tests.stage import StagedAirflow, at, dag_run, dag_task, new_run, task

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
PASSWORD = "correct horse battery"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
PARAMETERS = {
    "type": "object",
    "properties": {
        "rows": {"type": "integer", "minimum": 1, "maximum": 1000, "title": "Rows", "description": "How `many`."},
        "share": {"type": "number", "default": 0.5},
        "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
        "table": {"type": ["null", "string"]},
        "verbose": {"type": "boolean", "default": False},
        "columns": {"type": "array", "items": {"type": "string"}, "default": ["id"]},
    },
    "required": ["rows"],
}
TASKS = [
    dag_task("extract", "clean", "count"),
    dag_task("clean", "load"),
    dag_task("count", "load"),
    dag_task("load"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("The tests of the console need Chromium: install the package `chromium`.", pytrace=False)
    # A busy machine takes its time; what holds is seen at once.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def database(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    # After the browser: while Playwright has its event loop in this thread, Django keeps connections elsewhere.
    with django_db_blocker.unblock(), own_database(tmp_path_factory.mktemp("console")) as url:
        yield url


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedAirflow]:
    """An Airflow in which all is well."""
    with StagedAirflow() as airflow:
        airflow.answers["GET", "/pools"] = {"pools": [], "total_entries": 0}
        airflow.answers["GET", "/monitor/health"] = {name: {"status": "healthy"} for name in COMPONENTS}
        yield airflow


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def site(database: str, log_folder: Path, staged: StagedAirflow, provider: Provider) -> Iterator[Site]:
    """A web process with a staged Airflow. No worker: what happens is what a test lets happen."""
    env = {"AIRFLOW_URL": staged.url, "AIRFLOW_USERNAME": "admin", "AIRFLOW_PASSWORD": "admin"}
    env |= {"OIDC_ISSUER": provider.issuer, "OIDC_NAME": "Example", "OIDC_TIMEOUT": "60"}
    env |= {"OIDC_CLIENT_ID": identity.CLIENT_ID, "OIDC_CLIENT_SECRET": identity.CLIENT_SECRET}
    site = Site(database_url=database, log=log_folder / "web.log", env=env)
    yield site
    site.kill()


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    viewport: ViewportSize = getattr(request, "param", DESKTOP)
    context = browser.new_context(viewport=viewport)
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not break any rule of its own: no script error, nothing that the policy had to refuse."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    assert errors == []


@pytest.fixture(scope="module")
def olga(database: str) -> User:
    """An operator."""
    user = User(username="olga", email="olga@example.com", role=Role.USER)
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture(scope="module")
def vera(database: str) -> User:
    """A viewer."""
    return User.objects.create(username="vera", email="vera@example.com", role=Role.VIEWER)


@pytest.fixture(autouse=True)
def _airflow_is_seen(database: str) -> None:
    """Each test begins with an Airflow that has just been looked at."""
    AirflowState.current()
    ahead = timezone.now() + timedelta(hours=1)
    AirflowState.objects.update(reachable=True, looked_at=ahead, last_error="")


@pytest.fixture
def nightly(olga: User) -> Workflow:
    """A workflow of this test's own, of a DAG whose tasks fork and join."""
    dag, _ = Dag.objects.update_or_create(dag_id="etl", defaults={"params_schema": PARAMETERS, "tasks": TASKS})
    return Workflow.objects.create(name=f"Nightly {Workflow.objects.count() + 100}", dag=dag, owner=olga)


@pytest.fixture
def lonely(olga: User, staged: StagedAirflow) -> Workflow:
    """A workflow of a DAG that no other test has runs of."""
    name = f"lonely_{Dag.objects.count()}"
    staged.answers["PATCH", f"/dags/{name}"] = {**staged.dags["etl"]["listed"], "dag_id": name}
    return Workflow.objects.create(name=name, dag=Dag.objects.create(dag_id=name, tasks=TASKS), owner=olga)


def sign_in(page: Page, site: Site, user: User, place: str = "") -> None:
    """Open the console as somebody who has signed in, and wait until it is live."""
    client = Client()
    client.force_login(user)
    session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
    page.goto(f"{site.url}/{place}")
    is_live(page)


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def place_of(run: Run) -> str:
    return f"#/runs/{run.workflow_id}/{run.pk}"


def badge(page: Page, run: Run) -> Locator:
    return page.locator(f"tr[data-run='{run.pk}'] .badge")


def node(page: Page, task_id: str) -> Locator:
    return page.locator(f".node[data-task='{task_id}']")


def field(page: Page, name: str) -> Locator:
    return page.locator(f"dialog [data-parameter='{name}']")


def run_page_shows(page: Page, state: str | re.Pattern[str]) -> None:
    expect(page.locator(".run-title .badge")).to_have_text(state)


def open_trigger(page: Page, workflow: Workflow) -> None:
    page.locator(f"[data-workflow='{workflow.pk}']").get_by_role("button", name="Trigger").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def paused(page: Page) -> Locator:
    return page.locator("main").get_by_text("Paused", exact=True)


def act(page: Page, action: str) -> None:
    """Press one of a run's buttons and confirm it."""
    page.get_by_role("button", name=action, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=f"{action} run").click()


def accepted(workflow: Workflow, **wanted: Any) -> Run:
    """A run that is pending, with its event, as while Airflow does not answer."""
    AirflowState.objects.update(reachable=False)
    given = {"rows": 1} if workflow.dag.params_schema else {}
    run = services.trigger_run(
        workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, given=given, **wanted
    )
    AirflowState.objects.update(reachable=True)
    return run


def begin(run: Run) -> None:
    """Let Airflow be seen to have started the run and its first task."""
    started = [task(run, "extract", "running", start=1)]
    observe(run.pk, Sight(at=at(2), run=dag_run(run, "running", start=1), tasks=started))


def end(run: Run, state: str = "success") -> None:
    """Let Airflow be seen to have ended the run; where it has failed, `clean` is why."""
    failed = state == "failed"
    tasks = [
        task(run, "extract", "success", start=1, end=3),
        task(run, "clean", state, start=3, end=6),
        task(run, "count", "success", start=3, end=5),
        task(run, "load", "upstream_failed" if failed else "success", start=6, end=8),
    ]
    observe(run.pk, Sight(at=at(10), run=dag_run(run, state, start=1, end=9), tasks=tasks, all_tasks=True))


# --- signing in and out ---------------------------------------------------------------------------------------


def test_signing_in_leads_to_the_run_that_the_link_named(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)

    page.goto(f"{site.url}/{place_of(run)}")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(nightly.name)
    is_live(page)
    assert page.url == f"{site.url}/{place_of(run)}"


def test_signing_in_with_the_identity_provider_leads_there_too(
    page: Page, site: Site, nightly: Workflow, provider: Provider
) -> None:
    run = new_run(nightly)
    provider.redirect_to(f"{site.url}/login/oidc/callback")

    page.goto(f"{site.url}/{place_of(run)}")
    page.get_by_role("link", name="Sign in with Example").click()
    page.locator("[name=login]").fill("grace")
    page.keyboard.press("Enter")
    page.locator("[name=password]").fill(identity.PASSWORD)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text(nightly.name)
    is_live(page)
    assert page.url == f"{site.url}/{place_of(run)}"
    assert User.objects.get(username="grace").identities.get().issuer == provider.issuer


def test_a_wrong_password_is_told_and_lets_nobody_in(page: Page, site: Site, olga: User) -> None:
    page.goto(f"{site.url}/")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("Please enter a correct username and password.")
    assert page.context.cookies(site.url)[0]["name"] == "csrftoken"
    assert len(page.context.cookies(site.url)) == 1


def test_signing_out_leads_back_to_the_form(page: Page, site: Site, olga: User) -> None:
    sign_in(page, site, olga)

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto(f"{site.url}/")
    assert page.url == f"{site.url}/login?next=/"


def test_a_session_that_ends_is_told_on_the_page(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    Session.objects.all().delete()

    expect(page.locator("#connection")).to_have_text("Signed out")
    link = page.locator("#banner").get_by_role("link", name="Sign in")
    expect(link).to_have_attribute("href", f"/login{place_of(run)}")


def test_every_page_forbids_scripts_and_styles_that_are_not_its_own_files(page: Page, site: Site, olga: User) -> None:
    for path in ("/login", "/"):
        answer = page.goto(f"{site.url}{path}")
        assert answer is not None
        policy = answer.header_value("content-security-policy") or ""
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy


# --- runs, live -------------------------------------------------------------------------------------------


def test_the_list_shows_a_run_that_others_trigger_and_follows_it_to_its_end(
    page: Page, site: Site, nightly: Workflow
) -> None:
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")
    expect(page.get_by_text("No run matches.")).to_be_visible()

    run = accepted(nightly, note="Over the API")
    expect(badge(page, run)).to_have_text("Pending")
    begin(run)
    expect(badge(page, run)).to_have_text("Running")
    end(run)
    expect(badge(page, run)).to_have_text("Success")

    expect(page.locator(f"tr[data-run='{run.pk}'] .cell-took")).to_have_text("8.0 s")
    expect(page.get_by_text("Over the API")).to_be_visible()


def test_the_list_is_narrowed_by_state_and_workflow(page: Page, site: Site, nightly: Workflow) -> None:
    going, failed = new_run(nightly, RunState.RUNNING), new_run(nightly, RunState.FAILED)
    sign_in(page, site, nightly.owner)

    page.locator(f"[data-workflow='{nightly.pk}'] > a").click()
    page.get_by_role("link", name="Failed", exact=True).click()

    expect(badge(page, failed)).to_have_text("Failed")
    expect(badge(page, going)).to_have_count(0)
    assert page.url == f"{site.url}/#/runs?workflow={nightly.pk}&state=failed"


def test_the_list_loads_older_runs_and_keeps_them_up_to_date(page: Page, site: Site, nightly: Workflow) -> None:
    oldest = new_run(nightly)
    Run.objects.filter(pk=oldest.pk).update(created_at=at(-1))
    for _ in range(50):
        new_run(nightly, RunState.SUCCESS)
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")
    expect(page.locator("tr[data-run]")).to_have_count(50)

    page.get_by_role("button", name="Load older runs").click()
    expect(badge(page, oldest)).to_have_text("Queued")
    begin(oldest)

    expect(badge(page, oldest)).to_have_text("Running")
    expect(page.locator("tr[data-run]")).to_have_count(51)


def test_the_page_of_a_run_follows_its_tasks_and_events(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))
    expect(page.locator("progress")).to_have_attribute("value", "0")

    begin(run)
    run_page_shows(page, "Running")
    expect(node(page, "extract")).to_have_attribute("data-state", "running")
    expect(node(page, "load")).to_have_attribute("data-state", "")
    expect(page.locator(".timeline li")).to_have_count(1)
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_disabled()

    end(run, "failed")
    run_page_shows(page, "Failed")
    expect(node(page, "clean")).to_contain_text("Failed")
    expect(node(page, "load")).to_contain_text("Not run")
    expect(page.locator("progress")).to_have_attribute("value", "1")
    expect(page.locator(".reason")).to_have_text("failed in Airflow: clean")
    for name in ("Stop", "Pause"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    expect(page.get_by_role("button", name="Why is it waiting?")).to_have_count(0)
    assert page.title() == f"Failed · {nightly.name} - SVOps"
    told = [event.type for event in run.events.order_by("-seq")]
    expect(page.locator(".log-type")).to_have_text(told)
    assert told[0] == "workflow.failed"


def test_after_the_web_process_was_killed_the_page_comes_back_with_every_event(
    page: Page, site: Site, nightly: Workflow
) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))
    expect(page.locator(".event-log li")).to_have_count(1)

    site.kill()
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    begin(run)
    end(run)
    site.start()
    # What a browser says when its network is back; without it the page waits for its own next attempt.
    page.evaluate("dispatchEvent(new Event('online'))")

    is_live(page)
    run_page_shows(page, "Success")
    total = run.events.count()
    expect(page.locator(".event-log li")).to_have_count(total)
    shown = page.locator(".event-log li").evaluate_all("lines => lines.map(line => Number(line.dataset.seq))")
    assert shown == list(range(total, 0, -1))


def test_what_somebody_writes_into_a_note_is_text_and_nothing_else(page: Page, site: Site, nightly: Workflow) -> None:
    note = "<img src=x onerror=alert(1)><b>bold</b>"
    run = accepted(nightly, note=note)

    sign_in(page, site, nightly.owner, place_of(run))

    expect(page.get_by_role("definition").filter(has_text=note)).to_be_visible()
    expect(page.locator("main img, main b")).to_have_count(0)


def test_a_run_that_one_may_not_see_looks_like_none(page: Page, site: Site, nightly: Workflow, vera: User) -> None:
    run = new_run(nightly)
    Workflow.objects.filter(pk=nightly.pk).update(visibility=Visibility.PRIVATE)

    sign_in(page, site, vera, place_of(run))

    expect(page.get_by_text("There is no such run, or none that you may see.")).to_be_visible()


# --- triggering -------------------------------------------------------------------------------------------


def test_a_wrong_parameter_is_told_at_its_field_and_nothing_runs(page: Page, site: Site, nightly: Workflow) -> None:
    sign_in(page, site, nightly.owner)
    open_trigger(page, nightly)

    field(page, "share").get_by_role("textbox").fill("half")
    page.get_by_role("button", name="Trigger run").click()

    expect(field(page, "rows").locator(".problem")).to_have_text("This parameter is required.")
    expect(field(page, "share").locator(".problem")).to_have_text("'half' is not of type 'number'")
    expect(field(page, "rows").get_by_role("textbox")).to_be_focused()
    assert not nightly.runs.exists()


def test_the_form_hands_over_each_parameter_in_its_own_type(page: Page, site: Site, nightly: Workflow) -> None:
    AirflowState.objects.update(reachable=False)
    sign_in(page, site, nightly.owner)
    open_trigger(page, nightly)

    field(page, "rows").get_by_role("textbox").fill("12")
    field(page, "mode").get_by_role("combobox").select_option("slow")
    field(page, "verbose").get_by_role("checkbox").check()
    field(page, "columns").get_by_role("textbox").fill('["id", "name"]')
    page.get_by_text("Start later, note and references").click()
    field(page, "note").get_by_role("textbox").fill("From the form")
    page.get_by_role("button", name="Trigger run").click()

    run_page_shows(page, "Pending")
    run = nightly.runs.get()
    assert run.parameters == {
        "rows": 12,
        "share": 0.5,
        "mode": "slow",
        "table": None,
        "verbose": True,
        "columns": ["id", "name"],
    }
    assert (run.note, run.task_id, run.dataset_id, run.run_at) == ("From the form", None, None, None)


def test_the_form_starts_from_the_defaults_of_the_workflow_and_of_the_dag(
    page: Page, site: Site, nightly: Workflow
) -> None:
    Workflow.objects.filter(pk=nightly.pk).update(default_parameters={"rows": 7, "region": "eu"})
    sign_in(page, site, nightly.owner)

    open_trigger(page, nightly)

    expect(field(page, "rows").get_by_role("textbox")).to_have_value("7")
    expect(field(page, "share").get_by_role("textbox")).to_have_value("0.5")
    expect(page.get_by_text("Also handed over, from the workflow's defaults: region.")).to_be_visible()


def test_a_start_that_is_put_off_is_shown_until_it_comes(page: Page, site: Site, lonely: Workflow) -> None:
    sign_in(page, site, lonely.owner)
    open_trigger(page, lonely)

    page.get_by_text("Start later, note and references").click()
    page.get_by_label("Start at").fill("2000-01-01T09:30")
    page.get_by_role("button", name="Trigger run").click()
    expect(field(page, "run_at").locator(".problem")).to_have_text("Expected a time to come.")
    assert not lonely.runs.exists()

    page.get_by_label("Start at").fill("2090-01-02T09:30")
    page.get_by_role("button", name="Trigger run").click()
    run_page_shows(page, "Pending")
    expect(page.locator(".run-sub")).to_contain_text(re.compile("starts at .*2090.* 09:30"))
    run = lonely.runs.get()
    # The browser's clock is that of this machine.
    assert run.run_at == datetime(2090, 1, 2, 9, 30).astimezone(UTC)
    page.get_by_role("link", name="← Runs").click()
    expect(page.locator(f"tr[data-run='{run.pk}'] .starts")).to_have_text(re.compile("^starts at .*2090.* 09:30$"))


# --- control ----------------------------------------------------------------------------------------------


def test_a_stop_is_confirmed_first_and_escape_leaves_the_run_alone(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    page.get_by_role("button", name="Stop", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    run.refresh_from_db()
    assert run.state == RunState.PENDING

    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_label("Note").fill("not needed")
    page.get_by_role("button", name="Stop run").click()
    run_page_shows(page, "Stopped")
    run.refresh_from_db()
    assert run.state_reason == "stopped by olga: not needed"


def test_a_refused_action_is_told_with_its_code_and_request(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, place_of(run))
    page.get_by_role("button", name="Stop", exact=True).click()

    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCESS)
    page.get_by_role("button", name="Stop run").click()

    expect(page.get_by_role("alert").filter(has_text="A run that is success can not be stopped.")).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text(re.compile(r"wrong_state · request [0-9a-f]{32}"))


def test_a_pending_run_is_held_and_let_go(page: Page, site: Site, nightly: Workflow) -> None:
    run, other = accepted(nightly), new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, place_of(run))

    act(page, "Pause")
    expect(paused(page)).to_be_visible()
    page.get_by_role("link", name="← Runs").click()
    expect(page.locator(f"tr[data-run='{run.pk}'] .badge")).to_have_text(["Pending", "Paused"])
    expect(badge(page, other)).to_have_text(["Running"])

    page.goto(f"{site.url}/{place_of(run)}")
    act(page, "Resume")
    expect(paused(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    expect(page.locator(".log-type").first).to_have_text(re.compile("workflow.resumed|workflow.queued"))
    run.refresh_from_db()
    assert run.paused is False


def test_what_else_would_freeze_is_shown_before_the_whole_dag_is_paused(
    page: Page, site: Site, lonely: Workflow, staged: StagedAirflow
) -> None:
    run, other = new_run(lonely, RunState.RUNNING), new_run(lonely, RunState.QUEUED)
    sign_in(page, site, lonely.owner, place_of(run))

    act(page, "Pause")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text([f"Queued{lonely.name}{str(other.pk)[:8]}"])
    expect(dialog.get_by_role("listitem").get_by_role("link")).to_have_attribute("href", place_of(other))
    assert lonely.runs.filter(paused=True).count() == 0
    assert ("PATCH", f"/dags/{lonely.name}") not in staged.calls

    dialog.get_by_role("button", name="Pause the whole DAG").click()
    expect(paused(page)).to_be_visible()
    expect(page.locator(f"[data-workflow='{lonely.pk}']")).to_contain_text("Paused")
    assert lonely.runs.filter(paused=True).count() == 2
    assert staged.calls.count(("PATCH", f"/dags/{lonely.name}")) == 1


def test_a_link_in_a_dialog_leads_out_of_it(page: Page, site: Site, lonely: Workflow) -> None:
    run, other = new_run(lonely, RunState.RUNNING), new_run(lonely, RunState.QUEUED)
    sign_in(page, site, lonely.owner, place_of(run))

    act(page, "Pause")
    page.get_by_role("dialog").get_by_role("link").click()

    run_page_shows(page, "Queued")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.url == f"{site.url}/{place_of(other)}"


def test_a_dag_is_paused_and_resumed_at_its_workflow(page: Page, site: Site, lonely: Workflow) -> None:
    run = new_run(lonely, RunState.RUNNING)
    sign_in(page, site, lonely.owner, f"#/runs?workflow={lonely.pk}")
    card = page.locator(f"[data-workflow='{lonely.pk}']")

    card.get_by_role("button", name=f"Pause {lonely.name}").click()
    page.get_by_role("button", name="Pause DAG").click()
    expect(card.get_by_text("Paused", exact=True)).to_be_visible()
    expect(page.locator(f"tr[data-run='{run.pk}'] .badge")).to_have_text(["Running", "Paused"])
    expect(card.get_by_role("button", name=f"Resume {lonely.name}")).to_be_focused()

    card.get_by_role("button", name=f"Resume {lonely.name}").click()
    page.get_by_role("button", name="Resume DAG").click()
    expect(card.get_by_text("Paused", exact=True)).to_have_count(0)
    expect(badge(page, run)).to_have_text(["Running"])
    assert Dag.objects.get(pk=lonely.dag_id).is_paused is False


def test_earlier_attempts_of_a_run_are_listed_newest_first(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    begin(run)
    end(run, "failed")
    for state in (RunState.FAILED, RunState.STOPPED):
        Run.objects.filter(pk=run.pk).update(state=state)
        run.refresh_from_db()
        with transaction.atomic():
            assert reopen(run)

    sign_in(page, site, nightly.owner, place_of(run))

    attempts = page.locator(".attempts > li")
    expect(attempts.locator("strong")).to_have_text(["Attempt 2", "Attempt 1"])
    expect(attempts.locator(".badge")).to_have_text(["Stopped", "Failed"])
    expect(attempts.nth(1)).to_contain_text("took 8.0 s")
    expect(attempts.nth(1)).to_contain_text("Failed: clean")


def test_why_a_run_waits_is_told_and_asked_again(page: Page, site: Site, lonely: Workflow) -> None:
    run = accepted(lonely)
    Run.objects.filter(pk=run.pk).update(paused=True)
    sign_in(page, site, lonely.owner, place_of(run))

    page.get_by_role("button", name="Why is it waiting?").click()
    reasons = page.locator(".reasons li")
    expect(reasons).to_have_text(["The run is paused before its start.You can act: Resume it."])
    Run.objects.filter(pk=run.pk).update(paused=False, run_at=datetime(2090, 1, 2, 9, 30, tzinfo=UTC))
    page.get_by_role("button", name="Ask again").click()
    expect(reasons).to_have_text(["It is to start at 2090-01-02 09:30:00 UTC.Nothing to do: Wait, or stop it."])

    page.get_by_role("button", name="Close", exact=True).last.click()
    expect(page.get_by_role("dialog")).to_have_count(0)


# --- logs of tasks ----------------------------------------------------------------------------------------


def test_a_press_on_a_task_shows_its_log_and_follows_it_to_its_end(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "one", "two")
    sign_in(page, site, nightly.owner, place_of(run))

    node(page, "extract").get_by_role("link").click()
    expect(page.locator(".log-text")).to_have_text(["one", "two"])
    expect(page.locator(".log-status")).to_have_text("Following")
    staged.put_log(run, "extract", "one", "two", "three")
    expect(page.locator(".log-text")).to_have_text(["one", "two", "three"])

    staged.put_task(run, "extract", "success", tries=1)
    staged.put_log(run, "extract", "one", "two", "three", "::group::Post Execute", "::endgroup::")
    expect(page.locator(".log-status")).to_have_text("The log has ended.")
    expect(page.locator(".log-text")).to_have_text(["one", "two", "three", "Post Execute"])

    page.get_by_role("link", name="Close the log").click()
    expect(page.locator(".log")).to_be_hidden()
    expect(node(page, "extract").get_by_role("link")).to_be_focused()


def test_an_earlier_try_of_a_task_is_chosen_by_its_number(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    observe(run.pk, Sight(at=at(5), tasks=[task(run, "extract", "failed", tries=2, start=3, end=4)]))
    staged.put_task(run, "extract", "failed", tries=2, start=3, end=4)
    staged.put_log(run, "extract", "it broke", tries=1)
    staged.put_log(run, "extract", "it broke again", tries=2)
    sign_in(page, site, nightly.owner, place_of(run))

    page.locator(".timeline").get_by_role("link", name="extract").click()
    expect(page.locator(".log-text")).to_have_text(["it broke again"])
    page.get_by_role("combobox", name="Try").select_option("Try 1")

    expect(page.locator(".log-text")).to_have_text(["it broke"])
    assert page.url == f"{site.url}/{place_of(run)}?task=extract&try_number=1"


def test_of_a_mapped_task_the_instance_that_failed_is_shown_first(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    instances = [task(run, "clean", state, index=n, start=3, end=4) for n, state in enumerate(("success", "failed"))]
    observe(run.pk, Sight(at=at(5), tasks=instances))
    for index, state in enumerate(("success", "failed")):
        staged.put_task(run, "clean", state, tries=1, index=index, start=3, end=4)
        staged.put_log(run, "clean", f"this is {index}", index=index)
    sign_in(page, site, nightly.owner, place_of(run))

    node(page, "clean").get_by_role("link").click()
    expect(page.locator(".log-text")).to_have_text(["this is 1"])
    page.get_by_role("combobox", name="Instance").select_option("0 · Success")

    expect(page.locator(".log-text")).to_have_text(["this is 0"])


def test_the_log_of_a_task_shows_itself_when_the_task_starts(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, f"{place_of(run)}?task=extract")
    expect(page.locator(".log-status")).to_have_text("The task has not started yet: its log shows here when it does.")

    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "<b>at work</b>")
    begin(run)

    expect(page.locator(".log-text")).to_have_text(["<b>at work</b>"])


def test_a_log_that_can_not_be_read_says_why_and_is_tried_again(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    sign_in(page, site, nightly.owner, f"{place_of(run)}?task=extract")
    expect(page.locator(".log-status")).to_contain_text("The run has no task extract in Airflow")

    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "here after all")
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(".log-text")).to_have_text(["here after all"])


# --- what a viewer may ------------------------------------------------------------------------------------


def test_a_viewer_reads_and_is_offered_nothing_else(page: Page, site: Site, nightly: Workflow, vera: User) -> None:
    run = new_run(nightly, RunState.RUNNING)

    sign_in(page, site, vera, place_of(run))

    run_page_shows(page, "Running")
    expect(page.locator(f"[data-workflow='{nightly.pk}'] > a")).to_be_visible()
    expect(page.get_by_role("button", name="Why is it waiting?")).to_be_enabled()
    for name in (re.compile("^Trigger"), re.compile("^Pause"), re.compile("^Stop$"), re.compile("^Retry$")):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


# --- Airflow's health -------------------------------------------------------------------------------------


def test_the_banner_comes_when_airflow_goes_and_goes_when_it_is_back(page: Page, site: Site, nightly: Workflow) -> None:
    new_run(nightly)
    sign_in(page, site, nightly.owner)
    expect(page.locator("#banner")).to_be_hidden()

    # Not ahead any more: a look that was answered later than the call would make its failure old news.
    AirflowState.objects.update(looked_at=timezone.now())
    upstream.note_down(reason="refused", now=timezone.now())
    expect(page.locator("#banner")).to_contain_text("Airflow does not answer.")
    upstream.note_up(version="3.3.2", now=timezone.now())

    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text("Airflow answers again.")


def test_states_that_may_be_old_are_called_so_from_the_start(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    AirflowState.objects.update(looked_at=datetime(2026, 1, 1, tzinfo=UTC))

    sign_in(page, site, nightly.owner, place_of(run))

    expect(page.locator("#banner")).to_contain_text("States are as they were last seen.")


# --- keyboard and phone -----------------------------------------------------------------------------------


def test_the_slash_key_leads_to_the_search_which_narrows_the_workflows(
    page: Page, site: Site, nightly: Workflow
) -> None:
    sign_in(page, site, nightly.owner)
    expect(page.locator(f"[data-workflow='{nightly.pk}']")).to_be_visible()

    page.keyboard.press("/")
    page.keyboard.type(nightly.name)
    expect(page.locator(".workflow")).to_have_count(1)
    page.keyboard.type(" and nothing like it")

    expect(page.locator("#workflows")).to_contain_text("No workflow matches")


def test_a_run_is_opened_and_its_stop_reached_by_keyboard_alone(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")

    page.locator(f"tr[data-run='{run.pk}'] a").focus()
    page.keyboard.press("Enter")
    run_page_shows(page, "Running")
    page.get_by_role("button", name="Stop", exact=True).focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("dialog", name="Stop this run?")).to_be_visible()


def test_the_skip_link_leads_past_the_workflows_and_stays_on_the_run(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    page.locator(".skip").focus()
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()
    assert page.url == f"{site.url}/{place_of(run)}"


@pytest.mark.parametrize("context", [PHONE], indirect=True)
def test_on_a_phone_everything_fits_and_the_graph_runs_downwards(page: Page, site: Site, nightly: Workflow) -> None:
    Workflow.objects.filter(pk=nightly.pk).update(name="a_name_without_any_place_to_break_" * 3)
    run = accepted(nightly, note="another_one_without_any_place_to_break_" * 3)
    Run.objects.filter(pk=run.pk).update(paused=True)
    sign_in(page, site, nightly.owner, "#/workflows")
    for place in ("#/workflows", "#/runs", place_of(run), f"{place_of(run)}?task=extract"):
        page.goto(f"{site.url}/{place}")
        expect(page.locator(".workflow:visible, tr[data-run]:visible, .node:visible").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    first, last = node(page, "extract").bounding_box(), node(page, "load").bounding_box()
    assert first is not None
    assert last is not None
    assert last["y"] > first["y"] + first["height"]


# --- with a real Airflow ----------------------------------------------------------------------------------


@pytest.mark.airflow
def test_a_run_triggered_from_the_form_is_watched_to_its_end_and_its_retry_previewed(
    page: Page, database: str, log_folder: Path, olga: User, airflow_server: AirflowServer, settings: Settings
) -> None:
    settings.AIRFLOW_URL = airflow_server.url
    upstream.airflow.cache_clear()
    dag_sync.sync_dags(now=timezone.now())
    AirflowState.objects.update(looked_at=timezone.now())
    dag = Dag.objects.get(dag_id="simple_workflow_example")
    workflow = Workflow.objects.create(name="Simple", dag=dag, owner=olga)
    site = Site(database_url=database, log=log_folder / "airflow.log", env={"AIRFLOW_URL": airflow_server.url})
    try:
        sign_in(page, site, olga)
        open_trigger(page, workflow)
        field(page, "processing_time").get_by_role("textbox").fill("0")
        page.get_by_role("button", name="Trigger run").click()
        run_page_shows(page, re.compile("Pending|Queued|Running"))

        run = workflow.runs.get()
        until(lambda: tick_until_ended(run), what="the run has ended", deadline=90)
        run_page_shows(page, "Success")
        for name in ("start", "processing", "completion"):
            expect(node(page, name)).to_have_attribute("data-state", "success")
        node(page, "processing").get_by_role("link").click()
        expect(page.locator(".log-text").filter(has_text="processing:").first).to_be_visible()
        expect(page.locator(".log-status")).to_have_text("The log has ended.")

        page.get_by_role("button", name="Retry", exact=True).click()
        page.get_by_role("radio", name="From one task on").check()
        page.get_by_role("combobox", name="Task to begin at").select_option("processing")
        expect(page.locator(".names code")).to_have_text(["processing", "completion"])
    finally:
        site.kill()
        upstream.airflow.cache_clear()


def tick_until_ended(run: Run) -> bool:
    """What the worker does every two seconds."""
    handover.carry_out_due(now=timezone.now())
    reconcile.tick(now=timezone.now())
    run.refresh_from_db()
    return run.state in TERMINAL
