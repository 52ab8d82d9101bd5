"""See 0019_join_state_checks.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..operations import RunFile, before

BEFORE = next(str(file) for file in load_migrations() if file.version == before(19))


class Migration(migrations.Migration):  # type: ignore[misc]
    """One CHECK for what goes with a state, in place of four."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(19),)
