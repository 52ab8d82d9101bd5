"""See 0017_add_steps.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(17))


class Migration(migrations.Migration):  # type: ignore[misc]
    """Steps, waits and signals of jobs, and receipts of publishing."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(17),)
