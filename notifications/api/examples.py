"""Typical requests, shown in the OpenAPI description."""

from drf_spectacular.utils import OpenApiExample

CONFIG = [
    OpenApiExample(
        "Slack, when something fails",
        value={
            "name": "On call",
            "channel": "slack",
            "webhook_url": "https://hooks.slack.com/services/T000/B000/XXXX",
            "notification_types": ["workflow_failed"],
            "filters": {"workflows": [3]},
        },
        request_only=True,
    ),
    OpenApiExample(
        "Webhook, for a program",
        value={
            "name": "Our backend",
            "channel": "webhook",
            "url": "https://backend.example.com/svops",
            "notification_types": ["workflow_completed", "workflow_failed"],
        },
        request_only=True,
    ),
    OpenApiExample(
        "E-mail, but not at night",
        value={
            "name": "Ada",
            "channel": "email",
            "recipients": ["ada@example.com"],
            "notification_types": ["workflow_failed"],
            "filters": {"only_on_change": True},
            "quiet_hours": {"begin": "22:00", "end": "07:00", "timezone": "Europe/Berlin"},
        },
        request_only=True,
    ),
]
RANGE = [
    OpenApiExample(
        "Everything that a config missed on one day",
        value={
            "config_id": 5,
            "since": "2026-03-02T00:00:00Z",
            "until": "2026-03-03T00:00:00Z",
            "status": ["failed", "suppressed"],
        },
        request_only=True,
    )
]
