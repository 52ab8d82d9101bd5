"""The app, as Django's registry has it."""

from __future__ import annotations

from django.apps import AppConfig


class PgJobsConfig(AppConfig):  # type: ignore[misc]
    """Jobs on PostgreSQL."""

    name = "pgjobs_celery.django"
    label = "pgjobs"
    verbose_name = "Celery jobs"
    default_auto_field = "django.db.models.BigAutoField"
