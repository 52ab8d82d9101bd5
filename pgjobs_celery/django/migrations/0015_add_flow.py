"""See 0015_add_flow.sql."""

from __future__ import annotations

from django.db import migrations

from ...db.migrations.files import load_migrations
from ..models import Pause, Queue, Rule
from ..operations import RunFile, before, declare_model

BEFORE = next(str(file) for file in load_migrations() if file.version == before(15))


class Migration(migrations.Migration):  # type: ignore[misc]
    """Rates, limits by key and fair shares."""

    atomic = False
    dependencies = (("pgjobs", BEFORE),)
    operations = (RunFile(15), *map(declare_model, (Queue, Rule, Pause)))
