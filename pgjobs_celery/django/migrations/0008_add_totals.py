"""See 0008_add_totals.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """Counters that outlive the rows they count."""

    atomic = False
    dependencies = (("pgjobs", "0007_add_audit"),)
    operations = (RunFile(8),)
