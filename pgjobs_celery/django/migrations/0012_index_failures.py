"""See 0012_index_failures.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(12))


class Migration(migrations.Migration):  # type: ignore[misc]
    """The newest failures, and those that are alike, by an index."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(12),)
