"""The SVOps project: settings and composition of its apps."""

from svops.celery import app as celery_app

__all__ = ["celery_app"]
