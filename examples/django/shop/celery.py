"""The Celery app, as Celery's own documentation has it for Django."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop", task_cls="pgjobs_celery:PgTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
