"""Hand messages to a batch, or to the caller's transaction, by a shorter way than kombu's own."""

from __future__ import annotations

import inspect
import logging
import os
from functools import cache, lru_cache
from typing import Any

import kombu
from kombu import Producer

from .._register import SCHEME
from ..db.callers.base import callers
from ..db.database import CONNECTION_ERRORS, Database, known_databases
from ..printable import guarded
from .batch import batches, find_batch

logger = guarded(logging.getLogger(__name__))

#: Of how many queues a collector remembers that they are declared.
REMEMBERED = 1000


class Collector(Producer):
    """A producer for what is collected, or part of the caller's transaction.

    Without what kombu does for each message and one of these needs not: to prepare for another try,
    which is the batch's or the caller's, and to look whether the queue is declared.
    """

    def __init__(self, producer: Producer) -> None:
        super().__init__(
            producer.channel,
            producer.exchange,
            producer.routing_key,
            serializer=producer.serializer,
            auto_declare=producer.auto_declare,
            compression=producer.compression,
            on_return=producer.on_return,
        )
        #: Entities declared already, by identity: to compare queues takes longer than all else.
        self._declared: dict[int, Any] = {}

    @property
    def is_known(self) -> bool:
        """True where kombu's ``publish()`` is the one that this was written after."""
        return _is_known(Producer.publish)

    def publish(self, body: Any, **options: Any) -> Any:
        """As kombu's."""
        policy = options.get("retry_policy") or {}
        for entity in options.pop("declare", None) or ():
            if id(entity) not in self._declared:
                self.maybe_declare(entity, retry=bool(options.get("retry")), **policy)
                if len(self._declared) >= REMEMBERED:
                    self._declared.clear()
                self._declared[id(entity)] = entity
        # Another exchange has to be asked for its queues, for which it may take another try.
        if options.get("exchange") == "" and self.is_known:
            return self._collect(body, **options)
        return super().publish(body, **options)

    def _collect(
        self,
        body: Any,
        *,
        exchange: str,
        routing_key: str,
        delivery_mode: Any = None,
        mandatory: bool = False,
        immediate: bool = False,
        priority: int | None = 0,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: dict[str, Any] | None = None,
        compression: str | None = None,
        retry: bool = False,
        retry_policy: Any = None,
        expiration: float | None = None,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        **properties: Any,
    ) -> None:
        headers = {} if headers is None else headers
        _, properties["delivery_mode"] = self._delivery_details(exchange, delivery_mode)
        if expiration is not None:
            properties["expiration"] = str(int(expiration * 1000))
        compression = self.compression if compression is None else compression
        body, content_type, content_encoding = self._prepare(
            body, serializer, content_type, content_encoding, compression, headers
        )
        channel = self.channel
        message = channel.prepare_message(
            body, priority, content_type, content_encoding, headers, properties
        )
        channel.basic_publish(
            message, exchange=exchange, routing_key=routing_key, mandatory=mandatory
        )


#: The options of kombu's ``publish()``, as far as we know.
_KNOWN = {*inspect.signature(Collector._collect).parameters, "declare"}


@lru_cache(maxsize=4)
def _is_known(publish: Any) -> bool:
    """False where kombu's ``publish()`` is another than the one that this was written after.

    A later kombu's, or that of a library which has put its own in its place, as Sentry's does.
    """
    unknown = inspect.signature(publish).parameters.keys() - _KNOWN
    if hasattr(publish, "__wrapped__"):
        return False
    if unknown:
        _warn_once(kombu.__version__, ", ".join(sorted(unknown)))
    return not unknown


@cache
def _warn_once(version: str, names: str) -> None:
    """Say, once in a process, why ``bulk()`` and ``using()`` take longer than they could."""
    logger.warning(
        "publish() of kombu %s has options that this release of pgjobs-celery does not know (%s): "
        "bulk() and using() publish by way of it, which is correct and takes longer",
        version, names,
    )  # fmt: skip


class Shortcut:
    """A thread's shorter way to publish for an app."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.pid = os.getpid()
        #: The producers' own connection, which stays what it is: one of ours is made after it.
        self._connection = pool.connections.connection
        #: Where it leads; None where that is another broker.
        self.database: Database | None = None
        # Another's transport is not made here: it may need what is not installed.
        if self._connection.get_transport_cls().driver_type == SCHEME:
            self.database = self._connection.transport.database
        #: What is known of calls that write at once and may be repeated: see repeated.py.
        self.repeated: dict[Any, Any] = {}
        self._collector: Collector | None = None

    def collector(self) -> Collector | None:
        """The collector; None if no server answers."""
        if self._collector is None:
            try:
                channel = self._connection.clone().channel()
            except CONNECTION_ERRORS:
                return None
            self._collector = Collector(Producer(channel, auto_declare=False))
        return self._collector


def is_alone(database: Database) -> bool:
    """True where what is published is neither collected nor part of a caller's transaction."""
    if callers.find() is None and batches.find() is None and not _is_on_django():
        return True  # as it mostly is
    return database.find_point().caller is None and find_batch(database) is None


def _is_on_django() -> bool:
    """True if a database is one of Django's, in whose transactions jobs take part by themselves."""
    return any(database.alias for database in known_databases())


def find_shortcut(app: Any) -> Shortcut | None:
    """This thread's shortcut for an app; None where it runs its tasks at once, and needs none."""
    pool = app.producer_pool
    # Celery's own place for what an app has in a thread. With a map of ours neither would end: the
    # shortcut knows tasks, and these their app.
    kept = vars(app._local)
    shortcut: Shortcut | None = kept.get("pgjobs_shortcut")
    if shortcut is None or shortcut.pool is not pool or shortcut.pid != os.getpid():
        if app.conf.task_always_eager:
            return None
        shortcut = kept["pgjobs_shortcut"] = Shortcut(pool)
    return shortcut
