"""Celery with a transport that costs nothing: what no broker can exceed."""

import json

import psutil  # type: ignore[import-untyped]

from benchmarks.free import published_file, settled_file
from benchmarks.processes import ROOT
from benchmarks.systems.base import System
from benchmarks.workers import Worker


class Free(System):
    """The transport in benchmarks/free.py; results stay in the process that has them."""

    name = "free"
    description = "the ceiling: messages from a generator in the worker, results kept in its memory"
    results_are_shared = False
    broker, backend = "free://", "cache+memory://"
    port = 0

    def start(self) -> None:
        self._folder = str(ROOT)

    def version(self) -> str:
        return "no server"

    def clean(self, queue: str, reply_to: str = "") -> None:
        """Its files go with the folder of the run."""

    def environment(self, queue: str, hits: str, results: bool) -> dict[str, str]:
        self._folder = hits
        return super().environment(queue, hits, results)

    def unsettled(self, queue: str) -> int:
        path = published_file(self._folder)
        if settled_file(self._folder).exists() or not path.exists():
            return 0
        return int(json.loads(path.read_text())["count"])

    def stored_results(self, reply_to: str) -> int:
        """Not to be seen from outside."""
        path = published_file(self._folder)
        return int(json.loads(path.read_text())["count"])

    def server_processes(self) -> list[psutil.Process]:
        return []

    def server_cpu(self) -> float | None:
        return None

    def connections(self, worker: Worker) -> int:
        return 0
