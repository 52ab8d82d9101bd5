"""A row as kombu delivers it: a message that knows the claim behind it, and whether it has ended.

The flags tell where the message is, and are written here alone. A job gets one outcome, the first
that comes: from the worker's request where the pool has the message, otherwise from the
acknowledgement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timezone
from typing import TYPE_CHECKING, Any

from kombu.message import Message as BaseMessage

from ..job.decide import End, EndedRun, decide
from ..job.envelope import Envelope, moment
from ..job.held_claim import CLAIM, carried_claim
from ..job.outcome import Outcome, released
from ..signals import is_end_heard

if TYPE_CHECKING:
    from ..job.rows import Claim

#: A pool's thread may begin a task while the worker's main thread puts it back in line.
_fate = threading.Lock()


class Message(BaseMessage):
    """A delivered message.

    Its ``__init__`` does what kombu's does, without the detours: this runs once per task.
    """

    #: The job behind it; None for a message that is not a job.
    claim: Claim | None = None
    #: When the job is not worth running any more, by the monotonic clock; None for never.
    expires_at: float | None = None
    #: When it should run, as it was published: for its task to see.
    eta: str | None = None
    #: The row of ``messages`` behind it, where it is not a job and must be acknowledged.
    row: int | None = None
    #: The pool has it, and reports what becomes of the job: acknowledging only makes room.
    is_tracked = False
    #: It was handed out and did not go to the pool: its holder may acknowledge it.
    is_kept = False
    #: It was acknowledged before the pool had it.
    is_acknowledged = False
    #: The task has begun.
    is_started = False
    #: Returns the worker's request; None where the message has none.
    request: Callable[[], Any] | None = None
    #: The job was put back in line, or its outcome is known: nothing more must be settled.
    is_settled = False
    #: Why the body could not be read.
    failure: BaseException | None = None

    def __init__(
        self,
        channel: Any,
        tag: int,
        envelope: Envelope,
        body: bytes,
        redelivered: bool,
        claim: Claim | None = None,
    ) -> None:
        headers, properties = envelope.headers, envelope.properties
        if headers.get("compression"):
            # The rare case goes the long way: kombu knows how to decompress.
            super().__init__(body=body, headers=headers)
        else:
            self.errors: list[Any] = []
            self.body = body
            self.headers = headers
            self._decoded_cache = None
            self._state = "RECEIVED"
            self.accept = None
        if claim is not None:
            self.claim = claim
            if headers.get("eta") is not None and moment(headers["eta"], lambda: timezone.utc):
                # It has waited in the row; the worker must not hold it for a clock that differs.
                self.eta, headers["eta"] = headers["eta"], None
            node = channel.node
            properties[CLAIM] = carried_claim(
                node.hex, node.database.key, claim, envelope.routing_key
            )
        self.channel = channel
        self.delivery_tag = tag
        self.content_type = envelope.content_type
        self.content_encoding = envelope.content_encoding
        self.properties = properties
        self.delivery_info = {
            "exchange": envelope.exchange,
            "routing_key": envelope.routing_key,
            "priority": properties.get("priority"),
            "redelivered": redelivered,
        }

    def settle(self, outcome: Outcome | None) -> bool:
        """Note what becomes of the job, unless that is known: the first outcome counts.

        None stands for an outcome that is in the row already. True if it is the first. Takes no
        lock, for a signal handler may call this.
        """
        if not self._close():
            return False
        self._note(outcome)
        return True

    def _note(self, outcome: Outcome | None) -> None:
        node = self.channel.node
        if outcome is not None:
            node.settle(outcome)
        elif self.claim is not None:
            node.done(self.claim.id, self.claim.attempt)

    def _close(self) -> bool:
        """The outcome of the job is known from now on; False if it was before."""
        if self.is_settled:
            return False
        self.is_settled = True
        return True

    def begin(self) -> bool:
        """The task begins in a thread of this process; False if it was put back in line before."""
        with _fate:
            if not self.is_settled:
                self.is_started = True
            return self.is_started

    def note_begun(self) -> None:
        """The pool has reported that the task has begun."""
        self.is_started = True

    def note_ack(self) -> bool:
        """It was acknowledged, and not by the pool: True if the job ends with that.

        A worker's request may still go to the pool while it is being handed out: then
        :meth:`keep` ends the job.
        """
        with _fate:
            if self.is_settled:
                return False
            self.is_acknowledged = True
            has_ended = (self.is_kept or self.request is None) and self._close()
        if has_ended:
            self._end()
        return has_ended

    def note_early_ack(self) -> None:
        """Its keeper is acknowledging it; the event loop may never come to do so."""
        if self.is_kept:
            self.is_acknowledged = True

    def keep(self) -> None:
        """It was handed out, and the pool does not have it: the job ends if it is acknowledged."""
        with _fate:
            if self.is_settled or self.is_tracked:
                return
            self.is_kept = True
            has_ended = self.is_acknowledged and self._close()
        if has_ended:
            self._end()

    def _end(self) -> None:
        """The job ends with its acknowledgement: no pool reports its outcome."""
        if self.claim is None:
            return
        # Code that took it from the worker may have stored a result, which finished the row.
        is_shared = self.request is not None
        name, id = self.headers.get("task"), self.headers.get("id")
        job = (name, id) if is_shared and name and id and is_end_heard() else None
        run = EndedRun(self.claim, End.ACKNOWLEDGED, self.unreadable, is_shared=is_shared, job=job)
        self._note(decide(run))

    def refuse(self, *, requeue: bool) -> None:
        """It was refused: put the job back in line, or discard it; unless its outcome is known."""
        if self.claim is None or self.is_settled:
            return
        if requeue:
            run = EndedRun(self.claim, End.REQUEUED, is_shared=False)
        else:
            request = self.request() if self.request else None
            stores_failure = request is None or bool(request.stores_failure)
            run = EndedRun(self.claim, End.REJECTED, self.unreadable, stores_failure=stores_failure)
        self.settle(decide(run))

    def track(self) -> None:
        """The pool has it from now on.

        A job that has ended by an acknowledgement stays ended: the task runs without a claim.
        """
        if not self.is_kept:
            self.is_tracked = True
            return
        with _fate:
            if self.is_settled and self.is_acknowledged:
                self.claim = None
                self.properties.pop(CLAIM, None)
            else:
                self.is_tracked = True

    def give_back(self) -> bool:
        """Put the job back in line; False if it has begun or will, or its outcome is known."""
        with _fate:
            if self.is_settled or (self.is_tracked and not self._take_from_pool()):
                return False
            self._close()
        if self.claim is not None:
            self._note(released(self.claim))
        return True

    @property
    def is_with_others(self) -> bool:
        """Its keeper may run it yet, even if the channel closes."""
        request = self.request() if self.request and self.is_kept else None
        return bool(request and request.may_run_later)

    def _take_from_pool(self) -> bool:
        """False if the task has begun, or a child that was sent it will run it."""
        if self.is_started:
            return False
        request = self.request() if self.request else None
        return request is None or bool(request.take_back())

    def _decode(self) -> Any:
        try:
            return super()._decode()
        except Exception as error:
            self.failure = error
            raise

    @property
    def unreadable(self) -> BaseException | None:
        """Why this message cannot be read; None if it can, or was not tried."""
        if self.errors:
            error: BaseException = self.errors[0][1]
            return error
        return self.failure
