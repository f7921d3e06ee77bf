"""The Django project: settings, URLs, health, metrics, logs and retention across the apps. No domain logic.

Start with `settings`, then `urls`.
"""

from svops.celery import app as celery_app

__all__ = ["celery_app"]
