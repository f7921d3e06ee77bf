"""Which configs a batch may concern: found by an index, the same as if every config were asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from notifications import facts as facts_of
from notifications import rules, services, sinks
from notifications.interest import Interest
from notifications.models import Delivery, NotificationConfig, Subscription
from notifications.tests.conftest import MakeConfig, complete, fail, start_run
from workflows.eventlog import events
from workflows.eventlog.events import Entry
from workflows.models import Dag, Event, Visibility, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

pytestmark = pytest.mark.django_db

TYPES = ["workflow_failed", "workflow_completed", "task_failed", "system_airflow_down"]


@pytest.fixture
def other(ada: User) -> Workflow:
    """A private workflow over a tagged DAG."""
    dag = Dag.objects.create(dag_id="tagged", tags=["gold", "x" * 200])
    return Workflow.objects.create(name="Other", dag=dag, owner=ada, visibility=Visibility.PRIVATE)


def batch(*workflows: Workflow, user: User | None = None) -> list[Event]:
    """Record a failure and a task's failure of each workflow, and an outage of Airflow, in one batch."""
    now = timezone.now()
    failed = events.WorkflowFailed(
        airflow=DEFAULT, state=RunState.FAILED, attempt=1, reason="x", failed_tasks=["load"], duration_s=3.0
    )
    task = events.TaskFailed(state="failed", map_index=-1, try_number=1)
    runs = [start_run(workflow, user=user) for workflow in workflows]
    with transaction.atomic():
        return events.record_all(
            [
                *(Entry(data=data, now=now, run=run) for run in runs for data in (failed, task)),
                Entry(data=events.AirflowDown(airflow=DEFAULT, reason="refused"), now=now),
            ]
        )


def filters(workflow: Workflow, other: Workflow, user: User) -> list[dict[str, Any]]:
    return [
        {},
        {"workflows": [workflow.pk]},
        {"workflows": [other.pk, 999]},
        {"workflows": []},
        {"tags": ["gold"]},
        {"tags": ["x" * 200, "silver"]},
        {"tags": ["x" * 199]},
        {"states": ["failed"]},
        {"states": ["success"]},
        {"users": [user.pk]},
        {"users": [999]},
        {"workflows": [other.pk], "tags": ["silver"]},
        {"workflows": [other.pk], "users": [user.pk], "states": ["failed"]},
        {"duration_over_s": 2.0},
        {"duration_over_s": 5.0, "tags": ["gold"]},
        {"only_on_change": True},
    ]


def test_the_configs_found_by_subject_are_those_that_the_rules_choose_from_all(
    workflow: Workflow, other: Workflow, make_config: MakeConfig, ada: User, bob: User, root: User
) -> None:
    for actor in (ada, bob, root):
        for chosen in filters(workflow, other, ada):
            make_config(actor=actor, notification_types=TYPES, filters=chosen)
    make_config(actor=root, for_everyone=True, notification_types=TYPES)
    Delivery.objects.all().delete()

    recorded = batch(workflow, other, user=ada)

    configs = NotificationConfig.objects.select_related("owner").prefetch_related("subscriptions")
    expected = {
        (event.pk, config.pk)
        for event in recorded
        for config in configs
        if not rules.why_not(config, frozenset(row.type for row in config.subscriptions.all()), facts_of.of(event))
    }
    assert set(Delivery.objects.values_list("event", "config")) == expected
    assert 50 < len(expected) < len(recorded) * configs.count()


def test_a_config_alone_gets_what_the_rules_choose_for_it(
    workflow: Workflow, other: Workflow, make_config: MakeConfig, ada: User
) -> None:
    for chosen in filters(workflow, other, ada):
        config = make_config(actor=ada, notification_types=TYPES, filters=chosen)
        types = frozenset(config.subscriptions.values_list("type", flat=True))

        recorded = batch(workflow, other, user=ada)

        expected = {event.pk for event in recorded if not rules.why_not(config, types, facts_of.of(event))}
        assert set(Delivery.objects.filter(config=config).values_list("event", flat=True)) == expected
        config.delete()


NARROW: dict[str, Callable[[int], dict[str, Any]]] = {
    "workflows": lambda number: {"workflows": [1000 + number]},
    "tags": lambda number: {"tags": [f"other {number}"]},
    "users": lambda number: {"users": [1000 + number]},
    "states": lambda number: {"states": ["success"]},
}


@pytest.mark.parametrize("narrow", NARROW)
def test_configs_that_are_filtered_out_are_not_even_read(workflow: Workflow, ada: User, narrow: str) -> None:
    fill(ada, 3, narrow)
    few = cost(workflow)
    fill(ada, 60, narrow)

    many = cost(workflow)

    assert many == few
    assert Delivery.objects.count() == 0


def test_configs_of_those_who_cannot_see_the_workflow_are_not_read(other: Workflow, bob: User) -> None:
    fill(bob, 60, None)

    recorded = batch(other)
    interest = Interest.read(recorded[:2])

    assert interest.configs == {}
    assert Delivery.objects.filter(event__type__startswith="workflow").count() == 0


def fill(owner: User, count: int, narrow: str | None) -> None:
    for number in range(count):
        config = NotificationConfig.objects.create(
            name="Other", channel="webhook", owner=owner, filters=NARROW[narrow](number) if narrow else {}
        )
        Subscription.objects.bulk_create(
            Subscription(config=config, type="workflow.failed", subject=subject)
            for subject in rules.subjects(config.filters)
        )


def cost(workflow: Workflow) -> tuple[int, int]:
    """Return the queries of the sink for a failure, and how many configs it loads."""
    event = fail(start_run(workflow))
    with CaptureQueriesContext(connection) as seen:
        sinks.create_deliveries([event])
    return len(seen), len(Interest.read([event]).configs)


@pytest.mark.parametrize("size", [1, 40])
def test_the_queries_for_a_batch_do_not_grow_with_it(workflow: Workflow, make_config: MakeConfig, size: int) -> None:
    make_config(notification_types=["workflow_failed", "task_failed"], fold_repeats=False)
    run = start_run(workflow)
    task = events.TaskFailed(state="failed", map_index=-1, try_number=1)
    now = timezone.now()
    with transaction.atomic():
        recorded = events.record_all([Entry(data=task, now=now, run=run) for _ in range(size)])
    assert Delivery.objects.count() == size
    Delivery.objects.all().delete()

    with CaptureQueriesContext(connection) as seen:
        sinks.create_deliveries(recorded)

    # Is anybody concerned, the workflow, its grants, its tags, subscriptions, configs, deliveries so far, the INSERT.
    inserts = [query for query in seen if query["sql"].startswith("INSERT")]
    assert len(seen) - len(inserts) <= 8
    assert Delivery.objects.count() == size


# --- Subscriptions follow filters and types -----------------------------------------------------------------------


def subjects(config: NotificationConfig) -> list[tuple[str, str]]:
    return list(config.subscriptions.values_list("type", "subject"))


def test_subscriptions_follow_every_change_of_the_filters_and_of_the_types(make_config: MakeConfig) -> None:
    config = make_config()
    assert subjects(config) == [("workflow.failed", "")]

    services.update_config(config=config, filters={"workflows": [3, 4, 3]})
    assert subjects(config) == [("workflow.failed", "workflow:3"), ("workflow.failed", "workflow:4")]

    services.update_config(config=config, notification_types=["workflow_completed"])
    assert subjects(config) == [("workflow.completed", "workflow:3"), ("workflow.completed", "workflow:4")]
    assert config.notification_types == ["workflow_completed"]

    services.update_config(config=config, name="Renamed")
    assert subjects(config) == [("workflow.completed", "workflow:3"), ("workflow.completed", "workflow:4")]

    services.update_config(config=config, filters={"only_on_change": True})
    assert subjects(config) == [("workflow.completed", "")]


def test_two_changes_of_one_config_do_not_undo_each_other(make_config: MakeConfig) -> None:
    """The second one has read the config before the first has changed its filters."""
    config = make_config()
    stale = NotificationConfig.objects.get(pk=config.pk)
    services.update_config(config=config, filters={"tags": ["gold"]})

    services.update_config(config=stale, notification_types=["workflow_completed"])

    assert subjects(config) == [("workflow.completed", "tag:gold")]


# --- Episodes within a batch -----------------------------------------------------------------------------------


def test_a_failure_and_the_success_after_it_in_one_batch_are_an_alert_and_its_end(
    workflow: Workflow, make_config: MakeConfig
) -> None:
    make_config(fold_repeats=True)
    run, now = start_run(workflow), timezone.now()
    failed = events.WorkflowFailed(
        airflow=DEFAULT, state=RunState.FAILED, attempt=1, reason="x", failed_tasks=["load"], duration_s=3.0
    )
    ended = events.WorkflowCompleted(airflow=DEFAULT, state=RunState.SUCCESS, attempt=2, duration_s=3.0)

    with transaction.atomic():
        events.record_all([Entry(data=data, now=now, run=run) for data in (failed, failed, ended)])

    kinds = list(Delivery.objects.order_by("event", "kind").values_list("event__type", "kind", "status"))
    assert ("workflow.failed", "event", "pending") in kinds
    assert ("workflow.failed", "event", "folded") in kinds
    assert ("workflow.completed", "recovery", "pending") in kinds


def test_a_success_ends_the_failure_that_a_config_has_reported_although_its_filters_exclude_it_now(
    workflow: Workflow, make_config: MakeConfig
) -> None:
    config = make_config(fold_repeats=True)
    fail(start_run(workflow))
    services.update_config(config=config, filters={"workflows": [workflow.pk + 1]})

    complete(start_run(workflow))

    assert Delivery.objects.order_by("-id").values_list("kind", flat=True)[0] == "recovery"
