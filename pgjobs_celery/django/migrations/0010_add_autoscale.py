"""See 0010_add_autoscale.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(10))


class Migration(migrations.Migration):  # type: ignore[misc]
    """How many jobs could run, and how many may, for whatever starts workers."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(10),)
