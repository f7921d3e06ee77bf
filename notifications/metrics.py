"""Numbers for /metrics, read from the ledger at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Count
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from notifications import services
from notifications.models import WAITING, Delivery, NotificationConfig


class LedgerCollector(Collector):
    """`svops_notifications_owed`, `…_overdue` and `…_disabled_configs`."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        waiting = GaugeMetricFamily("svops_notifications_owed", "Deliveries that wait to be sent.", labels=["status"])
        counts = Delivery.objects.filter(status__in=WAITING).order_by().values_list("status").annotate(Count("pk"))
        for status, count in counts:
            waiting.add_metric([status], count)
        yield waiting
        limit = timedelta(seconds=settings.NOTIFICATION_OVERDUE)
        late = services.overdue(now=timezone.now(), limit=limit)
        yield GaugeMetricFamily("svops_notifications_overdue", "Deliveries that no worker has taken in time.", late)
        off = NotificationConfig.objects.alive().filter(enabled=False).count()
        yield GaugeMetricFamily("svops_notifications_disabled_configs", "Configs that are disabled.", off)
