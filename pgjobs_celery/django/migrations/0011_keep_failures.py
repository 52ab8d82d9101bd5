"""See 0011_keep_failures.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(11))


class Migration(migrations.Migration):  # type: ignore[misc]
    """Each failed attempt with its begin and its worker, and jobs by their failure."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(11),)
