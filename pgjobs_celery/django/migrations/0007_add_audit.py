"""See 0007_add_audit.sql."""

from __future__ import annotations

from django.db import migrations

from ..models import Action
from ..operations import RunFile, declare_model


class Migration(migrations.Migration):  # type: ignore[misc]
    """A record of who did what to jobs, queues and entries."""

    atomic = False
    dependencies = (("pgjobs", "0006_add_entries"),)
    operations = (RunFile(7), declare_model(Action))
