"""Who may see, run and manage a workflow, through every interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from accounts.models import Role, User
from rest.errors import NotAllowedError
from workflows import access, services
from workflows.eventlog import audience
from workflows.models import Event, Grant, Level, Run, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run

AsUser = Callable[[User], APIClient]
pytestmark = pytest.mark.usefixtures("no_airflow")


def grant(workflow: Workflow, level: str, **whom: Any) -> Grant:
    return services.grant(workflow=workflow, actor=workflow.owner, level=Level(level), **whom).grant


@pytest.fixture
def analysts(eve: User) -> Group:
    """A group that eve is in."""
    group = Group.objects.create(name="analysts")
    eve.groups.add(group)
    return group


REQUESTS: dict[str, tuple[str, str, Any]] = {
    "see": ("get", "", None),
    "validate": ("post", "/runs/validate", {"parameters": {"rows": 1}}),
    "trigger": ("post", "/runs", {"parameters": {"rows": 1}}),
    "trigger several": ("post", "/runs/batch", {"items": []}),
    "stop": ("post", "/runs/{run}/control", {"action": "stop"}),
    "pause": ("post", "/runs/{run}/control", {"action": "pause"}),
    "retry": ("post", "/runs/{run}/control", {"action": "retry"}),
    "preview a retry": ("post", "/runs/{run}/control", {"action": "retry", "dry_run": True}),
    "pause the DAG": ("post", "/pause", {}),
    "change": ("patch", "", {"description": "Changed"}),
    "delete": ("delete", "", None),
    "list grants": ("get", "/grants", None),
    "grant": ("post", "/grants", {"user": "vera", "level": "view"}),
    "revoke": ("delete", "/grants/1", None),
}
RUNS = {"trigger", "trigger several", "stop", "pause", "retry", "preview a retry", "pause the DAG"}
MANAGES = {"change", "delete", "list grants", "grant", "revoke"}


def stored() -> list[Any]:
    rows = [Workflow.objects, Run.objects, Event.objects, Grant.objects]
    return [list(manager.order_by("pk").values()) for manager in rows]


def do(client: APIClient, name: str, workflow: Workflow, run: Run) -> int:
    method, path, body = REQUESTS[name]
    url = f"/api/v1/workflows/{workflow.pk}{path.format(run=run.pk)}"
    return int(getattr(client, method)(url, body).status_code)


@pytest.mark.parametrize("through", ["user", "group"])
@pytest.mark.parametrize("level", [None, "view", "run", "manage"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_grant_opens_what_its_level_says_and_nothing_else(
    secret: Workflow,
    eve: User,
    vera: User,
    analysts: Group,
    as_user: AsUser,
    level: str | None,
    name: str,
    through: str,
) -> None:
    run = new_run(secret, RunState.SUCCESS if "retry" in name else RunState.PENDING)
    if level:
        whom: dict[str, Any] = {"user": eve} if through == "user" else {"group": analysts}
        grant(secret, level, **whom)
    before = stored()

    status = do(as_user(eve), name, secret, run)

    if level is None:
        assert status == 404
    elif (name in RUNS and level == "view") or (name in MANAGES and level != "manage"):
        assert status == 403
    else:
        assert status != 403
        assert status != 404 or name == "revoke"
        return
    assert stored() == before


def test_a_grant_never_gives_more_than_the_role(secret: Workflow, vera: User, as_user: AsUser) -> None:
    grant(secret, "manage", user=vera)

    assert as_user(vera).get(f"/api/v1/workflows/{secret.pk}").status_code == 200
    assert do(as_user(vera), "trigger", secret, new_run(secret)) == 403
    assert do(as_user(vera), "grant", secret, new_run(secret)) == 403


def test_the_owner_grants_changes_the_level_and_takes_it_back(secret: Workflow, eve: User, as_user: AsUser) -> None:
    ada, url = as_user(secret.owner), f"/api/v1/workflows/{secret.pk}/grants"

    given = ada.post(url, {"user": "eve", "level": "view"})
    changed = ada.post(url, {"user": "eve", "level": "run"})

    assert (given.status_code, changed.status_code) == (201, 200)
    assert ada.get(url).json() == {"count": 1, "next": None, "previous": None, "results": [changed.json()]}
    assert changed.json() | {"created_at": ""} == {
        "id": given.json()["id"], "user": "eve", "group": None, "level": "run", "created_at": "",
    }  # fmt: skip
    assert ada.delete(f"{url}/{given.json()['id']}").status_code == 204
    assert as_user(eve).get(f"/api/v1/workflows/{secret.pk}").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"level": "run"}, "user"),
        ({"user": "eve", "group": "analysts", "level": "run"}, "user"),
        ({"user": "nobody", "level": "run"}, "user"),
        ({"group": "nobody", "level": "run"}, "group"),
        ({"user": "eve", "level": "own"}, "level"),
    ],
)
def test_a_wrong_grant_names_the_field(
    secret: Workflow, analysts: Group, as_user: AsUser, body: dict[str, str], field: str
) -> None:
    answer = as_user(secret.owner).post(f"/api/v1/workflows/{secret.pk}/grants", body)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert not Grant.objects.exists()


def test_a_grant_of_another_workflow_cannot_be_revoked_through_ones_own(
    secret: Workflow, nightly: Workflow, eve: User, as_user: AsUser
) -> None:
    other = Workflow.objects.create(name="Mine", dag=secret.dag, owner=eve)
    held = grant(secret, "view", user=eve)

    assert as_user(eve).delete(f"/api/v1/workflows/{other.pk}/grants/{held.pk}").status_code == 404
    assert Grant.objects.get() == held


@pytest.mark.parametrize("visibility", Visibility)
def test_the_audience_of_the_streams_are_the_users_who_can_see_the_workflow(
    secret: Workflow, eve: User, vera: User, root: User, analysts: Group, visibility: str
) -> None:
    """`visible_to` and `audience.load` let the same users see a workflow, before and after."""
    Workflow.objects.filter(pk=secret.pk).update(visibility=visibility)
    gus = User.objects.create_user("gus", "gus@example.com", role=Role.USER)

    def agree() -> set[str]:
        seen_by = audience.load([secret.pk])[secret.pk]
        seeing = {u for u in User.objects.all() if Workflow.objects.visible_to(u).filter(pk=secret.pk).exists()}
        hearing = {u for u in User.objects.all() if seen_by.includes(user_id=u.pk, is_admin=u.is_superuser)}
        assert seeing == hearing
        return {user.username for user in seeing}

    alone = agree()
    grant(secret, "view", user=gus)
    through_group = grant(secret, "run", group=analysts)
    granted = agree()
    services.revoke(grant=through_group, actor=root)

    everybody = {"ada", "eve", "gus", "root", "vera"}
    private = [{"ada", "root"}, {"ada", "eve", "gus", "root"}, {"ada", "gus", "root"}]
    assert [alone, granted, agree()] == ([everybody] * 3 if visibility == "internal" else private)


def test_only_users_who_manage_a_workflow_grant_access_to_it(secret: Workflow, eve: User, vera: User) -> None:
    grant(secret, "run", user=eve)

    with pytest.raises(NotAllowedError):
        services.grant(workflow=secret, actor=eve, level=Level.VIEW, user=vera)

    assert [access.may_run(secret, eve), access.may_manage(secret, eve)] == [True, False]
    assert list(Grant.objects.values_list("user__username", "level")) == [("eve", "run")]


def test_a_workflow_in_the_list_costs_no_query_of_its_own(
    secret: Workflow, eve: User, as_user: AsUser, django_assert_max_num_queries: Any
) -> None:
    for n in range(5):
        grant(Workflow.objects.create(name=f"W{n}", dag=secret.dag, owner=secret.owner), "view", user=eve)
    client = as_user(eve)

    with django_assert_max_num_queries(3):
        assert client.get("/api/v1/workflows").json()["count"] == 5
