"""See 0002_add_task_options.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """Cancel what runs, unique jobs, queues that are paused or limited."""

    atomic = False
    dependencies = (("pgjobs", "0001_create_jobs"),)
    operations = (RunFile(2),)
