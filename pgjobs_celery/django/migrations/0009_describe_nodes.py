"""See 0009_describe_nodes.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(9))


class Migration(migrations.Migration):  # type: ignore[misc]
    """What a worker is, beyond its name: its pool, its process, the tasks it knows."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(9),)
