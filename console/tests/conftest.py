"""What all tests of the console share: one browser, one database and one web process per test process.

The fixtures have the scope `package` and not `session`. While Playwright runs, no other event loop can start in this
thread, and Django's default database is the console's: both must end before the tests of the next package begin.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright
from pytest_django import DjangoDbBlocker

from accounts.models import Role, User
from accounts.tests import provider as identity
from accounts.tests.provider import Provider
from console.tests.screen import DESKTOP, PASSWORD
from console.tests.site import Site, own_database
from workflows.models import Airflow, Dag, Workflow
from workflows.tests.stage import StagedAirflow, dag_task

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
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


def chromium() -> str:
    """Return the path of Chromium. Without it skip the test, or fail it where CI is set."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "The tests of the console need Chromium: install the package `chromium`."
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium()
    # A busy machine is slow. A condition that holds already is found at once, however long the timeout is.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def database(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    # Needs the browser first: once Playwright runs its event loop in this thread, Django keeps other connections.
    with django_db_blocker.unblock(), own_database(tmp_path_factory.mktemp("console")) as url:
        yield url


@pytest.fixture(scope="package")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="package")
def staged() -> Iterator[StagedAirflow]:
    """A staged Airflow that is healthy."""
    with StagedAirflow() as airflow:
        airflow.answers["GET", "/pools"] = {"pools": [], "total_entries": 0}
        airflow.answers["GET", "/monitor/health"] = {name: {"status": "healthy"} for name in COMPONENTS}
        yield airflow


@pytest.fixture(scope="package")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><p>Shop")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def shop() -> Iterator[str]:
    """Serve a page at an origin that is not SVOps'; yield the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="package")
def elsewhere() -> Iterator[str]:
    """The origin of a page of a product, which may call the API."""
    with shop() as origin:
        yield origin


@pytest.fixture(scope="package")
def site(database: str, log_folder: Path, staged: StagedAirflow, provider: Provider, elsewhere: str) -> Iterator[Site]:
    """A web process with a staged Airflow. There is no worker: the test itself makes everything happen."""
    env = {"AIRFLOW_URL": staged.url, "AIRFLOW_USERNAME": "admin", "AIRFLOW_PASSWORD": "admin"}
    env |= {"OIDC_ISSUER": provider.issuer, "OIDC_NAME": "Example", "OIDC_TIMEOUT": "60"}
    env |= {"OIDC_CLIENT_ID": identity.CLIENT_ID, "OIDC_CLIENT_SECRET": identity.CLIENT_SECRET}
    # The page repeats a request for a log that is not there yet.
    env |= {"LOG_WAIT": "1", "CORS_ALLOWED_ORIGINS": elsewhere}
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
    """A page. The test fails when a script throws an error or the security policy blocks something."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    assert errors == []


@pytest.fixture(scope="package")
def olga(database: str) -> User:
    """An operator."""
    user = User(username="olga", email="olga@example.com", role=Role.USER)
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture(scope="package")
def vera(database: str) -> User:
    """A viewer."""
    return User.objects.create(username="vera", email="vera@example.com", role=Role.VIEWER)


@pytest.fixture(autouse=True)
def _airflow_answers(database: str) -> None:
    """Start each test with an Airflow that has just answered."""
    Airflow.default()
    ahead = timezone.now() + timedelta(hours=1)
    Airflow.objects.update(reachable=True, looked_at=ahead, last_error="")


@pytest.fixture
def nightly(olga: User) -> Workflow:
    """A workflow for this test alone. The tasks of its DAG fork and join."""
    dag, _ = Dag.objects.update_or_create(dag_id="etl", defaults={"params_schema": PARAMETERS, "tasks": TASKS})
    return Workflow.objects.create(name=f"Nightly {Workflow.objects.count() + 100}", dag=dag, owner=olga)


@pytest.fixture
def lonely(olga: User, staged: StagedAirflow) -> Workflow:
    """A workflow whose DAG has no runs of other tests."""
    name = f"lonely_{Dag.objects.count()}"
    staged.answers["PATCH", f"/dags/{name}"] = {**staged.dags["etl"]["listed"], "dag_id": name}
    return Workflow.objects.create(name=name, dag=Dag.objects.create(dag_id=name, tasks=TASKS), owner=olga)
