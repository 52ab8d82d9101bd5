"""The worker of examples/fastapi, which hears of jobs only if it is told."""

from __future__ import annotations

import sys
from pathlib import Path

from . import tasks as _says_when_it_is_ready  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "fastapi"))

from tasks import app

app.conf.broker_transport_options = {"poll_interval": 60.0}
