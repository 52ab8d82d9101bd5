"""See 0013_index_roots.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(13))


class Migration(migrations.Migration):  # type: ignore[misc]
    """The jobs of a canvas, by the task that began it."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(13),)
