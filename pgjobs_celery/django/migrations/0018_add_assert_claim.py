"""See 0018_add_assert_claim.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(18))


class Migration(migrations.Migration):  # type: ignore[misc]
    """A function for SQL of a task's own: whether its run still holds its job."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(18),)
