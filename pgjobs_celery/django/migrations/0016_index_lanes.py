"""See 0016_index_lanes.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(16))


class Migration(migrations.Migration):  # type: ignore[misc]
    """The jobs of each lane, in their order."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(16),)
