"""``celery pgjobs``: the commands."""

from __future__ import annotations

import click

from ..errors import RequirementMissing

try:
    from .main import pgjobs as loaded
except RequirementMissing as error:
    # Celery loads this with each of its commands, and shows what is raised here with its traceback.
    from .missing import refusing

    pgjobs: click.Command = refusing(error)
else:
    pgjobs = loaded

__all__ = ["pgjobs"]
