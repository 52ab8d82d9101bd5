"""See 0005_harden_schema.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """Functions that mean the same to everybody, and rows that can be replicated."""

    atomic = False
    dependencies = (("pgjobs", "0004_create_schedules"),)
    operations = (RunFile(5),)
