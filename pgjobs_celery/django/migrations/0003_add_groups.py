"""See 0003_add_groups.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """Saved groups, and chords."""

    atomic = False
    dependencies = (("pgjobs", "0002_add_task_options"),)
    operations = (RunFile(3),)
