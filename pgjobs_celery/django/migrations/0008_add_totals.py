"""See 0008_add_totals.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(8))


class Migration(migrations.Migration):  # type: ignore[misc]
    """Counters that outlive the rows they count."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(8),)
