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
from ..node.node import Node
from ..node.nodes import get_node
from ..printable import guarded
from ..scopes.waker import Waker
from .channel import Channel
from .client import hide_passwords, read_client_options, show_place, with_scheme
from .declaration import Management
from .driver import DRIVER, let_workers_talk
from .feed import NEVER
from .loop_seat import LoopSeat
from .news import act_on, end_cancelled, find_rung, is_turned_soon
from .own_queues import OwnQueues
from .sleep import Sleep

logger = guarded(logging.getLogger(__name__))

#: How long one turn of the event loop may hand out messages, in seconds.
TURN = 0.01
#: After a turn that took as long, in seconds, jobs that wait here may have been cancelled.
HELD_UP = 0.1
#: How often a worker's loop in a thread sees whether it must leave, in seconds.
FLAG_INTERVAL = 0.1
#: How many outcomes are collected before they are written although jobs are still at hand.
OUTCOMES = 100
#: Every so many polls everything is looked at, and it is made sure that we are told of news.
FULL_POLL = 6


class Transport(base.Transport):
    """kombu's transport, and as kombu's virtual transports do, its own connection."""

    can_parse_url = True
    default_port = 5432
    Management = Management
    driver_type = DRIVER
    driver_name = "psycopg"
    connection_errors = (*base.Transport.connection_errors, *CONNECTION_ERRORS)
    recoverable_connection_errors = CONNECTION_ERRORS
    channel_errors = (ChannelError,)
    # Of a compression that kombu does not know: the publisher gets OperationalError, as on Redis.
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
        #: This process's, once it has connected, and the queues that go with this connection.
        self._node: Node
        self.own_queues: OwnQueues
        self.channels: list[Channel] = []
        self.sleep = Sleep(self.database, self._hear)
        self._next_poll, self._polls = 0.0, 0
        self._pid = os.getpid()
        #: In the event loop of a worker.
        self._seat: LoopSeat | None = None
        self._loop_thread = 0
        #: Why the connection is given up for lost.
        self._failure = ""
        #: The worker is leaving, and must not wait for messages.
        self._is_hurried = False
        #: None until a thread waits here.
        self._waker: Waker | None = None

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
        self._pid, self._node = os.getpid(), get_node(self.database)
        self.own_queues = OwnQueues(self._node)
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
            self.own_queues.delete()
        finally:
            self.channels.clear()
            self.sleep.close()
            if self._node.has_left:
                # Celery closes its connection last, and a test worker's process goes on without it.
                self.database.close()

    def _collect(self, connection: Transport | None) -> None:
        """The connection is lost, or (after a fork) the parent's: let go without a word to it."""
        if self._pid != os.getpid():
            for channel in self.channels:
                channel.abandon()
            self.sleep.abandon()
            self._waker = self._seat = None
        elif connection is not None:
            self.own_queues.leave()
            self._leave_event_loop()
            for channel in list(self.channels):
                channel.let_go()
            self.sleep.close()
        self.channels.clear()

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
        waker, listener = self._open_waker(), self.sleep.listener
        sources: list[Any] = [waker] if listener is None else [waker, listener]
        readable, _, _ = select.select(sources, [], [], max(0.0, seconds))
        waker.drain()
        if listener is not None and listener in readable:
            self.sleep.read()

    # Consume in the event loop of a worker

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        """Take a turn whenever the loop does, and wake it when something comes."""
        self.database.wait_for_idle()
        self._loop_thread = threading.get_ident()
        self._seat = LoopSeat(loop, self._open_waker(), self._on_tick)
        self.sleep.join(loop)
        if self.options.listen:
            self.sleep.open()
        self._seat.repeat(self.options.poll, self._poll)
        if threading.current_thread() is not threading.main_thread():
            # No signal interrupts the loop here: Celery's test worker is told to leave by a flag.
            self._seat.repeat(FLAG_INTERVAL, lambda: None)

    def _leave_event_loop(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.leave()
            self.sleep.leave()
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    def _on_tick(self) -> None:
        delivered = self._take_turn()
        if (delivered and self._may_have_more()) or self._fall_asleep():
            # The loop must not wait before it asks again.
            self.wake(always=True)
        elif self._seat is not None:
            # Nobody wakes us for what stands below the floors.
            due_at = self._due_at()
            if self._seat.ring_at(due_at, lambda: delivered > 0 and is_turned_soon(self._node)):
                self.wake(always=True)
        if self.sleep.bell:
            self._pass_on()

    # One turn

    def _due_at(self) -> float:
        """When the next look is worth its price although nothing has come."""
        if self._node.is_fenced:
            return NEVER  # each poll asks whether it still is
        due_at = min([channel.due_at for channel in self.channels], default=NEVER)
        retry_at = self.sleep.retry_at
        return retry_at if retry_at < due_at and self._idle_channels() else due_at

    def _take_turn(self, *, single: bool = False) -> int:
        """Deliver for a while, and write what became of jobs where no claim carried it along.

        ``single``: only one message.
        """
        if self._failure:
            failure, self._failure = self._failure, ""
            raise ConnectionLost(failure)
        start = time.monotonic()
        until = 0.0 if single else start + TURN
        delivered = 0
        for channel in list(self.channels):
            delivered += channel.deliver(until)
            if delivered and single:
                if len(self.channels) > 1 and channel in self.channels:
                    # The others first, next time.
                    self.channels.remove(channel)
                    self.channels.append(channel)
                break
        if delivered and time.monotonic() - start > HELD_UP:
            # A task ran here (solo): we may hear only later of what was cancelled meanwhile.
            end_cancelled(self._node, self.channels)
        if self.sleep.has_found_jobs:
            self.sleep.make_sure()
        node = self._node
        if node.unwritten and (
            node.unwritten >= OUTCOMES
            or not any(channel.jobs.will_claim for channel in self.channels)
        ):
            node.flush()
        return delivered

    def _may_have_more(self) -> bool:
        """After a turn: False if all that can come is due at a known time, or wakes the loop.

        So it is with a pool of children, which tell by their pipes what becomes of their tasks.
        Another turn of the loop costs some 25 µs, as much as a task's way through here.
        """
        pool = self._node.pool
        return pool is None or not pool.has_processes or not self._seat or self._seat.has_calls

    def _fall_asleep(self) -> bool:
        """Announce that we wait, when there is nothing; True if we must look once more."""
        if self.sleep.is_undisturbed or not self.options.listen:
            if self.sleep.is_silent and (rung := find_rung(self._node, self.channels)):
                self.sleep.hang_bell(rung)
            return False
        if not (channels := self._idle_channels()):
            return False
        rung = find_rung(self._node, channels) if self._seat is not None else None
        if not self.sleep.begin({q for each in channels for q in each.queues}, rung):
            return False
        for channel in channels:
            channel.jobs.look_once_more()
            channel.mailbox.look_again()
        return True

    def _idle_channels(self) -> list[Channel]:
        """Those that consume, if none of them has anything to do."""
        channels = []
        for channel in self.channels:
            if channel.queues:
                if not channel.is_idle:
                    return []
                channels.append(channel)
        return channels

    def _pass_on(self) -> None:
        """Have others told of jobs for which our bell was rung, and that we will not claim."""
        jobs = [channel.jobs for channel in self.channels]
        passed = self.sleep.bell.pass_on(lambda queue: any(each.may_claim(queue) for each in jobs))
        if not passed:
            return
        if not any(each.open_queues for each in jobs):
            # None of them is us: we have no bell any more.
            self.sleep.silence(self.database.wake_for_jobs(*each) for each in passed.items())
        else:
            self.database.run(*([self.database.wake(notify.JOB, queue)] for queue in passed))

    def queues_changed(self) -> None:
        """A channel consumes from other queues than before."""
        self.sleep.begin_anew()
        if not any(channel.jobs.has_queues for channel in self.channels):
            self.sleep.retire(self._pass_on)
        self.wake()

    def _poll(self) -> None:
        """The safety net: a wake-up may have been lost.

        A job may have been put in line by hand. A message that is not a job is always announced,
        with its commit, so that where we listen a look now and then is enough.
        """
        self._next_poll = time.monotonic() + self.options.poll
        self._polls += 1
        is_full = self._polls % FULL_POLL == 0
        self.sleep.poll(must_check=is_full)
        self._node.limits.expire()
        for channel in self.channels:
            channel.jobs.look_again(has_news=not self.options.listen)
            if is_full or not self.options.listen:
                channel.mailbox.look_again()
        end_cancelled(self._node, self.channels)

    def _hear(self, notification: str) -> None:
        act_on(notification, self._node, self.channels, self.sleep.bell)

    # From any thread

    def fail(self, why: str) -> None:
        """Give the connection up for lost, whatever the loop is doing."""
        self._failure = why
        if self._seat is not None:
            self._seat.turn_soon()
        self.wake(always=True)
        self.database.cut(self._loop_thread)

    def hurry(self) -> None:
        """The worker must leave: its blocking loop waits twice for 2 seconds before it does."""
        self._is_hurried = True
        self.wake(always=True)

    def wake(self, *, always: bool = False) -> None:
        """Have another turn soon: there is room for another message."""
        waker = self._waker
        if waker is None or waker.is_woken:
            return
        if always or threading.get_ident() != self._loop_thread:
            waker.wake()

    def _open_waker(self) -> Waker:
        if self._waker is None:
            self._waker = Waker()
        return self._waker
