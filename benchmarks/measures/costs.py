"""What worker, server and machine have spent at one moment; the difference of two is a cost."""

import os
import time

from benchmarks.measures.base import Run
from benchmarks.processes import machine_cpu_seconds
from benchmarks.workers import Worker


class Costs:
    """CPU seconds at one moment: the worker's, the server's, everybody's."""

    def __init__(self, run: Run, worker: Worker) -> None:
        self.at = time.monotonic()
        self.worker = worker.cpu_seconds()
        self.server = run.system.server_cpu()
        self.machine = machine_cpu_seconds()
        self.harness = time.process_time()

    def others_since(self, before: "Costs") -> float:
        """Percent of the machine that neither worker, server nor harness has used since."""
        known = (self.worker - before.worker) + (self.harness - before.harness)
        known += (self.server or 0) - (before.server or 0)
        others = self.machine - before.machine - known
        capacity = (self.at - before.at) * (os.cpu_count() or 1)
        return max(0.0, others / capacity * 100)
