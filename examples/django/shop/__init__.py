"""A shop: an order and the mail about it are one transaction."""

from .celery import app as celery_app

__all__ = ["celery_app"]
