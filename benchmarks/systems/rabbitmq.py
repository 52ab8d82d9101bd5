"""Celery on RabbitMQ with rpc:// results, with and without publisher confirms."""

import contextlib
import os
from typing import Any

import psutil  # type: ignore[import-untyped]
from kombu import Connection  # type: ignore[attr-defined]

from benchmarks.errors import Unavailable
from benchmarks.processes import cpu_seconds
from benchmarks.systems.base import System


class Rabbitmq(System):
    """Broker and rpc:// results on RabbitMQ, as `Using RabbitMQ` in Celery's documentation."""

    name = "rabbitmq"
    description = (
        "broker on RabbitMQ (classic queue, no confirms), rpc:// results, Celery's defaults"
    )
    results_are_shared = False

    backend = "rpc://"

    def start(self) -> None:
        self.broker = os.environ.get("BENCH_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
        self._connection = self._open()
        self.port = self._connection.port or 5672
        try:
            self._connection.connect()
        except self._connection.connection_errors as error:
            raise Unavailable(f"no RabbitMQ: {error}") from error
        self.opened.callback(self._connection.release)
        self._channel: Any = self._connection.channel()

    def version(self) -> str:
        return f"RabbitMQ {self._connection.connection.server_properties['version']}"

    def clean(self, queue: str, reply_to: str = "") -> None:
        for name in filter(None, (queue, reply_to)):
            self._channel.queue_delete(name)
        self._channel.exchange_delete(queue)

    def unsettled(self, queue: str) -> int:
        return self._messages(queue)

    def stored_results(self, reply_to: str) -> int:
        return self._messages(reply_to)

    def server_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.info["name"] == "beam.smp" and "rabbit" in " ".join(process.cmdline()):
                    found.append(process)
        return found if self._connection.hostname in ("127.0.0.1", "localhost") else []

    def server_cpu(self) -> float | None:
        processes = self.server_processes()
        return cpu_seconds(processes) if processes else None

    def _open(self) -> Any:
        return Connection(self.broker, connect_timeout=5)  # type: ignore[no-untyped-call]

    def _messages(self, queue: str) -> int:
        """Messages ready in the queue: RabbitMQ does not count unacknowledged ones here."""
        try:
            answer: Any = self._channel.queue_declare(queue, passive=True)
        except self._connection.channel_errors:
            self._channel = self._connection.channel()
            return 0
        return int(answer.message_count)


class RabbitmqConfirms(Rabbitmq):
    """RabbitMQ that confirms each publish, so that delay() knows that the message is there."""

    name = "rabbitmq-confirms"
    description = "the same with broker_transport_options={'confirm_publish': True}"
    transport_options = {"confirm_publish": True}


class RabbitmqQuorum(Rabbitmq):
    """RabbitMQ's replicated queues, here with one replica, and confirms: synced to disk."""

    name = "rabbitmq-quorum"
    description = "a quorum queue of one member, with confirm_publish; rpc:// results"
    transport_options = {"confirm_publish": True}
    settings = {"task_default_queue_type": "quorum"}
