"""See 0004_create_schedules.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """The schedules that beat publishes."""

    atomic = False
    dependencies = (("pgjobs", "0003_add_groups"),)
    operations = (RunFile(4),)
