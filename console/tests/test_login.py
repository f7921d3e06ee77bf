"""Signing in to the console and out of it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from accounts.models import BrowserSession, User
from accounts.tests import provider as identity
from accounts.tests.provider import Provider
from console.tests.screen import PASSWORD, is_live, place_of, sign_in
from console.tests.site import Site
from workflows.models import Workflow
from workflows.tests.stage import new_run


def test_signing_in_opens_the_run_in_the_link(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)

    page.goto(f"{site.url}/{place_of(run)}")
    page.get_by_label("Username").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(nightly.name)
    is_live(page)
    assert page.url == f"{site.url}/{place_of(run)}"


def test_signing_in_with_the_identity_provider_opens_it_too(
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


def test_a_wrong_password_shows_a_message_and_starts_no_session(page: Page, site: Site, olga: User) -> None:
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


def test_the_page_says_when_the_session_has_ended(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    BrowserSession.objects.all().delete()

    expect(page.locator("#connection")).to_have_text("Signed out")
    link = page.locator("#banner").get_by_role("link", name="Sign in")
    expect(link).to_have_attribute("href", f"/login{place_of(run)}")


def test_every_page_allows_only_its_own_scripts_and_styles(page: Page, site: Site, olga: User) -> None:
    for path in ("/login", "/"):
        answer = page.goto(f"{site.url}{path}")
        assert answer is not None
        policy = answer.header_value("content-security-policy") or ""
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
