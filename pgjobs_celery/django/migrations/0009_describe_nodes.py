"""See 0009_describe_nodes.sql."""

from __future__ import annotations

from django.db import migrations

from ..operations import RunFile


class Migration(migrations.Migration):  # type: ignore[misc]
    """What a worker is, beyond its name: its pool, its process, the tasks it knows."""

    atomic = False
    dependencies = (("pgjobs", "0008_add_totals"),)
    operations = (RunFile(9),)
