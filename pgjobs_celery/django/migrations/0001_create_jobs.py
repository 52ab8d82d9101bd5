"""See 0001_create_jobs.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile, declare_model


class Migration(migrations.Migration):  # type: ignore[misc]
    """Everything a Celery app needs to run on PostgreSQL."""

    initial = True
    atomic = False  # it runs over a connection of its own
    dependencies = ()
    operations = (RunFile(1), declare_model())
