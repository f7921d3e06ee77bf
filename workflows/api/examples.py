"""Requests as people send them, for the OpenAPI description."""

from drf_spectacular.utils import OpenApiExample

WORKFLOW = [
    OpenApiExample(
        "Quick pipeline",
        value={
            "name": "Nightly figures",
            "dag_id": "data_processing_pipeline",
            "description": "Figures for the morning report",
            "default_parameters": {"processing_time": 10},
            "visibility": "internal",
        },
        request_only=True,
    )
]
TRIGGER = [
    OpenApiExample(
        "With parameters and references",
        value={
            "caller_task_ref": 4711,
            "caller_dataset_ref": "customers-2026",
            "parameters": {"processing_time": 5},
            "note": "requested by support",
        },
        request_only=True,
    )
]
CONTROL = [
    OpenApiExample("Stop", value={"action": "stop", "note": "wrong dataset"}, request_only=True),
    OpenApiExample("Retry failed tasks", value={"action": "retry"}, request_only=True),
    OpenApiExample(
        "List what a retry would run",
        value={"action": "retry", "mode": "from_task", "from_task": "transform", "dry_run": True},
        request_only=True,
    ),
]
GRANT = [
    OpenApiExample("A user may run it", value={"user": "ada", "level": "run"}, request_only=True),
    OpenApiExample("A group may see it", value={"group": "analysts", "level": "view"}, request_only=True),
]
AIRFLOW = [
    OpenApiExample(
        "By user name and password",
        value={
            "name": "prod",
            "url": "https://airflow.example.com",
            "options": {"username": "svops", "password": "…", "ingest_secret": "…"},
        },
        request_only=True,
    ),
    OpenApiExample(
        "By OAuth 2",
        value={
            "name": "team-1",
            "url": "https://airflow.example.com/team-1",
            "auth": "oauth2",
            "options": {
                "oauth2_token_url": "https://id.example.com/token",
                "oauth2_client_id": "svops",
                "oauth2_client_secret": "…",
            },
        },
        request_only=True,
    ),
]
DAG_RULE = [
    OpenApiExample(
        "A group builds on some DAGs",
        value={"match": "prefix", "value": "sales_", "group": "analysts", "level": "build"},
        request_only=True,
    ),
    OpenApiExample("Everybody builds on tagged DAGs", value={"match": "tag", "value": "public"}, request_only=True),
]
