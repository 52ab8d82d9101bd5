"""How long a failed job waits for its next attempt; pure but for the dice."""

from __future__ import annotations

import random

from celery.utils.time import get_exponential_backoff_interval

#: Oban scales attempts to this many where more are allowed: 2^20 s are twelve days.
SCALE = 20
#: The least, in seconds, and the share that chance adds to it.
PAD, JITTER = 15, 0.1


def oban_backoff(attempt: int, max_attempts: int) -> float:
    """Oban's: ``15 + 2^n`` seconds and up to 10 percent more, n the attempt scaled to 20.

    17 s after the first failure, 19, 23, 31, ... 17 minutes after the tenth, 12 days after the
    twentieth. (Oban.Worker, ``backoff/1``.)
    """
    exponent = attempt if max_attempts <= SCALE else round(attempt / max_attempts * SCALE)
    seconds = PAD + 2.0 ** min(exponent, SCALE)
    return seconds * (1 + JITTER * random.random())


def celery_backoff(attempt: int, factor: float | bool, maximum: float, jitter: bool) -> float:
    """Celery's ``retry_backoff``: ``factor * 2^retries`` up to ``maximum``, or with ``jitter``
    anything below that."""
    return float(
        get_exponential_backoff_interval(
            factor=int(max(1.0, factor)),
            retries=min(attempt - 1, 1000),
            maximum=int(maximum),
            full_jitter=jitter,
        )
    )
