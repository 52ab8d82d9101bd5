"""The name of our transport's driver, and where Celery lists drivers by name."""

from __future__ import annotations

import sys

#: The name of our transport's driver, by which Celery decides what a worker's steps may do.
DRIVER = "pgjobs"

#: The steps of Celery's consumer that name the transports on which workers may find each other.
TALKING = (("gossip", "Gossip"), ("mingle", "Mingle"))


def let_workers_talk() -> None:
    """Have Celery's workers find each other over our transport.

    Called with each transport, which such a step makes to see whether it is one of those that it
    knows: by then it is imported.
    """
    for module, name in TALKING:
        step = getattr(sys.modules.get(f"celery.worker.consumer.{module}"), name, None)
        if step is not None and DRIVER not in step.compatible_transports:
            step.compatible_transports = {*step.compatible_transports, DRIVER}
