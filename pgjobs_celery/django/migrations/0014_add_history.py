"""See 0014_add_history.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(14))


class Migration(migrations.Migration):  # type: ignore[misc]
    """How many jobs ended, and how long they waited and ran, by time."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(14),)
