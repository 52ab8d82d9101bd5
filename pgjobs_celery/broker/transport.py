"""PostgreSQL transport for kombu: every Celery task is a row of ``pgjobs.jobs``.

Features
========
* Type: Native (PostgreSQL 14 to 18)
* Supports Direct: Yes
* Supports Topic: Yes
* Supports Fanout: Yes
* Supports Priority: Yes
* Supports TTL: Yes

Connection string
=================
``pgjobs://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require``; whatever stands behind the scheme is
libpq's (several hosts, ``?host=/socket``, ``?service=name``). ``pgjobs+postgresql://`` is the same.
``pgjobs+django://ALIAS`` is a database that Django's settings name.

Transport options
=================
See :class:`pgjobs_celery.config.Options`: ``schema``, ``poll_interval``, ``listen``,
``listen_url``, ``prepare``, ``priority_order``, ``connect_timeout``, ``ask_after``,
``max_body_size``, ``max_claim``, ``read_ahead``, ``pool_size``, ``idle_timeout``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import base

from ..db import notify
from ..db.database import CONNECTION_ERRORS, ConnectionLost, Database, get_database
from ..db.dsn import Target
from ..db.notify import Listener
from ..node.node import get_node
from ..printable import guarded
from .channel import Channel
from .client import hide_passwords, read_client_options, show_place, with_scheme
from .declaration import Management
from .driver import DRIVER, let_workers_talk

logger = guarded(logging.getLogger(__name__))

#: How long one turn of the event loop may hand out messages, in seconds.
TURN = 0.01
#: How often a worker's loop in a thread sees whether it must leave, in seconds.
FLAG_INTERVAL = 0.1
#: How many outcomes are collected before they are written although jobs are still at hand.
OUTCOMES = 100
#: Every so many polls everything is looked at, and it is made sure that we are told of news.
FULL_POLL = 6


class Transport(base.Transport):  # type: ignore[misc]
    """kombu's transport, and as kombu's virtual transports do, its own connection."""

    can_parse_url = True
    default_port = 5432
    Management = Management
    driver_type = DRIVER
    driver_name = "psycopg"
    connection_errors = (*base.Transport.connection_errors, *CONNECTION_ERRORS)
    recoverable_connection_errors = CONNECTION_ERRORS
    channel_errors = (ChannelError,)
    # kombu's error for a compression that it does not know: the publisher gets OperationalError, as
    # on Redis.
    recoverable_channel_errors = (KeyError,)
    implements = base.Transport.implements.extend(
        asynchronous=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
        batch_publish=True,
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        let_workers_talk()
        hide_passwords(client)
        self.options = read_client_options(client)
        # Several URLs lead to one database, and this is one node.
        urls = [each.conninfo for each in client.alt] or [client.hostname.conninfo]
        self.database: Database = get_database(urls[0], self.options, urls)
        self.channels: list[Channel] = []
        #: The exclusive queues of this connection, which go with it.
        self._own_queues: set[str] = set()
        self._listener: Listener | None = None
        self._listener_fd: int | None = None
        #: Others know that we wait, and announce what becomes ready for us.
        self.is_asleep = False
        #: Work that is found now came without a notification.
        self._is_untold = False
        self._next_poll = 0.0
        self._polls = 0
        self._pid = os.getpid()
        self._loop: Any = None
        self._loop_thread = 0
        self._timers: list[Any] = []
        self._due_timer: Any = None
        self._due_timer_at = float("inf")
        #: Why the connection is given up for lost.
        self._failure = ""
        #: The worker is leaving, and must not wait for messages.
        self._is_hurried = False
        self._waker: tuple[socket.socket, socket.socket] | None = None
        self._is_waking = False

    # Connect

    def establish_connection(self) -> Transport:
        """Connect, and check that the schema is there; raises with the cause and the remedy."""
        try:
            self.database.verify()
        except CONNECTION_ERRORS:
            # Where another of the URLs leads, to which kombu may have come by now.
            if not (self.client.alt and self.database.move_to(self.client.hostname.conninfo)):
                raise
            self.database.verify()
        show_place(self.client, self.database.conninfo)
        self._pid = os.getpid()
        return self

    def create_channel(self, connection: Transport) -> Channel:
        """A new channel on the connection."""
        # Not ours when kombu asks: it may have gone on to another broker while it connected.
        channel = Channel(connection)
        connection.channels.append(channel)
        return channel

    def close_connection(self, connection: Transport) -> None:
        """Close the channels and leave the event loop; the pool's connections stay."""
        self._leave_event_loop()
        try:
            for channel in list(self.channels):
                try:
                    channel.close()
                except CONNECTION_ERRORS as error:
                    # The node writes what the channel let go of over the next connection.
                    logger.debug("a channel was closed without a connection: %s", error)
            self._delete_own_queues()
        finally:
            self.channels.clear()
            self._close_listener()
            if get_node(self.database).has_left:
                # Celery closes its connection last, and a test worker's process goes on without it.
                self.database.close()

    def _collect(self, connection: Transport | None) -> None:
        """The connection is lost, or (after a fork) the parent's: let go without a word to it."""
        if self._pid == os.getpid():
            get_node(self.database).uses.own(self, ())
            self._leave_event_loop()
            for channel in list(self.channels):
                channel.let_go()
            self._close_listener()
        else:
            for channel in self.channels:
                channel.abandon()
            self._listener = self._waker = self._loop = None
            self.is_asleep = False
        self.channels.clear()

    def own_queue(self, queue: str) -> None:
        """Delete the queue with this connection."""
        self._own_queues.add(queue)
        get_node(self.database).uses.own(self, tuple(self._own_queues))

    def disown_queue(self, queue: str) -> None:
        """The queue is gone."""
        if queue in self._own_queues:
            self._own_queues.remove(queue)
            get_node(self.database).uses.own(self, tuple(self._own_queues))

    def _delete_own_queues(self) -> None:
        own, self._own_queues = self._own_queues, set()
        get_node(self.database).uses.own(self, ())
        for queue in own:
            self.database.routes.delete_queue(queue)

    def forget_channel(self, channel: Channel) -> None:
        """The channel is closing."""
        if channel in self.channels:
            self.channels.remove(channel)

    def verify_connection(self, connection: Transport) -> bool:
        """False in a forked process: the connection is the parent's."""
        return self._pid == os.getpid()

    def driver_version(self) -> str:
        """psycopg's."""
        return self.database.driver_version

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The URI without its secrets, whatever is asked for: it is meant to be shown."""
        return (uri if isinstance(uri, Target) else Target(with_scheme(uri))).uri

    @property
    def client_info(self) -> str:
        """Where we are connected to, to be shown."""
        return self.as_uri(self.client.hostname)

    # Consume without an event loop

    def drain_events(self, connection: Transport, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message, or wait for it; raises socket.timeout after ``timeout``."""
        self._loop_thread = threading.get_ident()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._take_turn(single=True):
                return
            now = time.monotonic()
            if end is not None and (now >= end or self._is_hurried):
                raise socket.timeout()  # noqa: UP041
            if self._fall_asleep():
                continue
            self._next_poll = self._next_poll or now + self.options.poll
            until = min(self._next_poll, self._due_at())
            self._wait((until if end is None else min(until, end)) - now)
            if time.monotonic() >= self._next_poll:
                self._poll()

    def _wait(self, seconds: float) -> None:
        """Until something comes, something was settled by another thread, or time is up."""
        sources: list[Any] = [self._open_waker()]
        if self._listener is not None:
            sources.append(self._listener)
        readable, _, _ = select.select(sources, [], [], max(0.0, seconds))
        self._drain_waker()
        if self._listener is not None and self._listener in readable:
            self._read_notifications()

    # Consume in the event loop of a worker

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        """Take a turn whenever the loop does, and wake it when something comes."""
        self.database.wait_for_idle()
        self._loop = loop
        self._loop_thread = threading.get_ident()
        loop.on_tick.add(self._on_tick)
        loop.add_reader(self._open_waker(), self._drain_waker)
        if self.options.listen:
            self._open_listener()
        self._timers = [loop.call_repeatedly(self.options.poll, self._poll)]
        if threading.current_thread() is not threading.main_thread():
            # No signal interrupts the loop here: Celery's test worker is told to leave by a flag.
            self._timers.append(loop.call_repeatedly(FLAG_INTERVAL, lambda: None))

    def _leave_event_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.on_tick.discard(self._on_tick)
            if self._waker is not None:
                loop.remove(self._waker[0])
            self._stop_reading(loop)
            for timer in self._timers:
                timer.cancel()
            if self._due_timer is not None:
                self._due_timer.cancel()
                self._on_due()
        if self._waker is not None:
            waker, self._waker = self._waker, None
            for end in waker:
                end.close()

    def _on_tick(self) -> None:
        if self._take_turn() or self._fall_asleep():
            # There may be more: the loop must not wait before it asks again.
            self.wake(always=True)
        elif (due_at := self._due_at()) < self._due_timer_at:
            # Nobody wakes us for what stands below the floors.
            if self._due_timer is not None:
                self._due_timer.cancel()
            self._due_timer_at = due_at
            self._due_timer = self._loop.call_later(
                max(0.0, due_at - time.monotonic()), self._on_due
            )
            # The loop has asked its timers already how long it may sleep: once more.
            self.wake(always=True)

    def _on_due(self) -> None:
        # The timer alone makes the loop turn.
        self._due_timer, self._due_timer_at = None, float("inf")

    # One turn

    def _due_at(self) -> float:
        """When the next look is worth its price although nothing has come."""
        due_at = min((channel.due_at for channel in self.channels), default=float("inf"))
        if self._listener is not None and self._listener.is_refused and self._idle_channels():
            return min(due_at, self._listener.refusals.due_at)
        return due_at

    def _take_turn(self, *, single: bool = False) -> int:
        """Deliver for a while, and write what became of jobs where no claim carried it along.

        ``single``: only one message.
        """
        if self._failure:
            failure, self._failure = self._failure, ""
            raise ConnectionLost(failure)
        until = 0.0 if single else time.monotonic() + TURN
        delivered = 0
        for channel in list(self.channels):
            delivered += channel.deliver(until)
            if delivered and single:
                if len(self.channels) > 1 and channel in self.channels:
                    # The others first, next time.
                    self.channels.remove(channel)
                    self.channels.append(channel)
                break
        if delivered and self._is_untold and self.is_asleep:
            self._check_listener()
        node = get_node(self.database)
        if node.unwritten and (
            node.unwritten >= OUTCOMES
            or not any(channel.jobs.buffered for channel in self.channels)
        ):
            node.flush()
        return delivered

    def _fall_asleep(self) -> bool:
        """Say that we wait, when there is nothing; True if everything must be looked at again."""
        if self.is_asleep or not self.options.listen:
            return False
        channels = self._idle_channels()
        if not channels:
            return False
        listener = self._open_listener()
        if listener.is_refused and time.monotonic() < listener.refusals.due_at:
            return False  # no wake-up is needed: we look when it is asked for again
        queues = {queue for channel in channels for queue in channel.queues}
        self.is_asleep = listener.announce(queues | {""})
        self._read_notifications()
        for channel in channels:
            channel.jobs.look_once_more()
            channel.mailbox.look_again()
        return True

    def _idle_channels(self) -> list[Channel]:
        """Those that consume, if none of them has anything to do."""
        channels = [channel for channel in self.channels if channel.queues]
        return channels if all(channel.is_idle for channel in channels) else []

    def stop_sleeping(self) -> None:
        """There is so much to do that no wake-up is needed."""
        if self.is_asleep and self._listener is not None:
            self._listener.announce([""])
            self._read_notifications()
            self.is_asleep = False

    def queues_changed(self) -> None:
        """A channel consumes from other queues than before."""
        self.is_asleep = False
        self.wake()

    def _poll(self) -> None:
        """The safety net: a wake-up may have been lost.

        A job may have been put in line by hand. A message that is not a job is always announced,
        with its commit, so that where we listen a look now and then is enough.
        """
        self._next_poll = time.monotonic() + self.options.poll
        self._polls += 1
        is_full = self._polls % FULL_POLL == 0
        if self._listener is not None:
            self._listener.announce_again()
            if is_full:
                self._check_listener()
        self._is_untold = True
        get_node(self.database).limits.is_stale = True
        for channel in self.channels:
            channel.jobs.look_again()
            if is_full or not self.options.listen:
                channel.mailbox.look_again()
        self._end_cancelled()

    def _end_cancelled(self) -> None:
        """Keep cancelled jobs from beginning, and end those that must be terminated."""
        node = get_node(self.database)
        if node.pool is not None:
            for cancellation in node.find_cancelled():
                if not any(channel.jobs.drop(cancellation) for channel in self.channels):
                    node.pool.end(cancellation)

    # Notifications

    def _open_listener(self) -> Listener:
        if self._listener is None:
            self._listener = self.database.listen_for_work()
            # From now on we hear of jobs that are scheduled; of those before we were not told.
            self._listener.announce([""])
            get_node(self.database).services.expect_due()
            if self._loop is not None:
                # A lost connection has no number any more by which to take it from the loop.
                self._listener_fd = self._listener.fileno()
                self._loop.add_reader(self._listener_fd, self._read_notifications)
        return self._listener

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        self.is_asleep = False
        if listener is not None:
            listener.close()

    def _stop_reading(self, loop: Any) -> None:
        if self._listener_fd is not None:
            loop.remove(self._listener_fd)
            self._listener_fd = None

    def _check_listener(self) -> None:
        """Listen anew if notifications have stopped, which only asking shows."""
        self._is_untold = False
        with contextlib.suppress(*CONNECTION_ERRORS):
            if self._open_listener().is_heard():
                self._read_notifications()  # what came meanwhile is not on the socket any more
                return
        logger.warning(
            "LISTEN had died without a word, listening on a new connection; where a pooler stands "
            "between, set listen_url, or listen=False"
        )
        if self._loop is not None:
            self._stop_reading(self._loop)
        self._close_listener()
        self._open_listener()

    def _read_notifications(self) -> None:
        assert self._listener is not None
        for payload in self._listener.read():
            self._is_untold = False
            kind, name = payload[:1], payload[1:]
            if kind == notify.DUE:
                get_node(self.database).services.expect_due()
                continue
            if kind == notify.BOUND:
                get_node(self.database).services.post.listen_again()
                continue
            if kind == notify.CANCEL:
                self._end_cancelled()
                continue
            if kind == notify.QUEUE:
                get_node(self.database).limits.is_stale = True
            for channel in self.channels:
                if kind == notify.JOB:
                    channel.jobs.expect(name)
                elif kind == notify.BACK:
                    channel.jobs.expect(name, anywhere=True)
                elif kind == notify.MESSAGE:
                    channel.mailbox.expect(name)
                elif kind == notify.QUEUE:
                    channel.jobs.look_again()

    # From any thread

    def fail(self, why: str) -> None:
        """Give the connection up for lost, whatever the loop is doing."""
        self._failure = why
        if self._loop is not None:
            self._loop.call_soon(self._on_tick)  # it may have forgotten us
        self.wake(always=True)
        self.database.cut(self._loop_thread)

    def hurry(self) -> None:
        """The worker must leave: its blocking loop waits twice for 2 seconds before it does."""
        self._is_hurried = True
        self.wake(always=True)

    def wake(self, *, always: bool = False) -> None:
        """Have another turn soon: there is room for another message."""
        if self._is_waking or self._waker is None:
            return
        if always or threading.get_ident() != self._loop_thread:
            self._is_waking = True
            try:
                self._waker[1].send(b"\0")
            except OSError:  # closed by the loop's thread just now
                self._is_waking = False

    def _open_waker(self) -> socket.socket:
        if self._waker is None:
            self._waker = socket.socketpair()
            for end in self._waker:
                end.setblocking(False)
            self._is_waking = False
        return self._waker[0]

    def _drain_waker(self) -> None:
        if self._waker is not None:
            with contextlib.suppress(BlockingIOError):
                self._waker[0].recv(64)
        # Not before: a byte that is written in between would be read as well, and no other would
        # follow. A thread that finds the flag still set has done its part before the next turn.
        self._is_waking = False
