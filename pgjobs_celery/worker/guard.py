"""Set a message aside that would end this worker, and the next one as well."""

from __future__ import annotations

import logging

from ..broker.message import Message
from ..db.database import CONNECTION_ERRORS, REFUSALS
from ..job.outcome import discarded, error_from
from ..printable import guarded

logger = guarded(logging.getLogger(__name__))


def is_connection_lost(error: Exception, others: tuple[type[Exception], ...] = ()) -> bool:
    """True for an error that has nothing to do with the message: another worker may have it."""
    return isinstance(error, (*CONNECTION_ERRORS, *others)) and not isinstance(error, REFUSALS)


def set_aside(message: Message, error: BaseException) -> None:
    """Discard a message of ours, which cannot be dealt with, with the reason; any thread may."""
    claim = message.claim
    what = f"job {claim.id} of queue {claim.queue}" if claim else "a message"
    logger.error("%s is set aside: %r", what, error, exc_info=error)
    if claim is not None:
        outcome = discarded(claim, error_from(error))
        # The process that runs the task may have written what became of it.
        outcome = outcome._replace(is_sole=False, awaited=str(message.headers.get("id")))
        message.settle(outcome)
    # Not message.reject(): Celery has settled the message itself, or will.
    message.channel.basic_reject(message.delivery_tag)
