"""Have a worker say that it is ready: what every worker of the small applications includes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.signals import worker_ready


@worker_ready.connect
def touch(**_: Any) -> None:
    Path(os.environ["FIELD_READY"]).touch()
