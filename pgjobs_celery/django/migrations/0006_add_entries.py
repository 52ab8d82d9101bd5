"""See 0006_add_entries.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """Keys and values, as Celery's key-value backends keep them for their users."""

    atomic = False
    dependencies = (("pgjobs", "0005_harden_schema"),)
    operations = (RunFile(6),)
