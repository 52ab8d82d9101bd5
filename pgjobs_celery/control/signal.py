"""Send signals to jobs: what a job waits for in ``self.wait_for(name)``.

signal(app, task_id, "approved", {"by": "alice"})
signal(app, Key("order-42"), "paid")
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any

from celery.result import ResultSet
from kombu.exceptions import SerializationError

from ..config import read_setting
from ..db.database import Database
from ..errors import InvalidOption, StepNotRemembered
from ..job.steps import Key, Signal, check_name
from ..job.values import encode_value, serializer_of
from ..scopes.threads import in_thread
from .acting import begin_action
from .app import captured_signals, database_of

#: How many signals go into one statement.
SIZE = 1000


def signal(app: Any, to: Any, name: str, payload: Any = None, *, first: bool = False) -> bool:
    """Send a signal to a job; True once it is there, False if ``first`` and it is not the first.

    ``to`` is a task id, any handle on a result, a job of ``jobs(app)``, or a
    :class:`~pgjobs_celery.Key`, which one job has named in ``wait_for(name, key=...)``. A job that
    waits goes on; for one that does not yet, the signal is kept, also where the job is not
    published yet. Several of a name are taken one by one, in their order. With ``first``, nothing
    is sent where one of that name was sent to that address.
    Within :func:`~pgjobs_celery.using` it is sent with the commit. The audit records it.

    Raises InvalidOption for what cannot be an address or a name, and StepNotRemembered for a
    payload that the result serializer cannot hold, or larger than ``pgjobs_step_max_size``.
    """
    return bool(_send(app, [(to, name, payload)], first=first))


def signal_many(app: Any, signals: Iterable[tuple[Any, ...]], *, first: bool = False) -> int:
    """Send many signals, each ``(to, name)`` or ``(to, name, payload)``; how many were sent.

    1,000 at a time, each thousand in a transaction of its own unless it is part of yours.
    """
    rest = iter(signals)
    sent = 0
    while part := [*islice(rest, SIZE)]:
        sent += _send(app, part, first=first)
    return sent


def asignal(
    app: Any, to: Any, name: str, payload: Any = None, *, first: bool = False
) -> Coroutine[Any, Any, bool]:
    """As :func:`signal`, for asyncio programs: await it; it does not block the event loop."""
    return in_thread(signal, app, to, name, payload, first=first)


def _send(app: Any, given: Sequence[tuple[Any, ...]], *, first: bool) -> int:
    stand_in = captured_signals(app)
    if stand_in is not None:
        coding = _Coding(app.conf)
        return stand_in([coding.signal(*each) for each in given], first)
    return send(database_of(app), app, given, first=first)


def send(
    database: Database, app: Any, given: Sequence[tuple[Any, ...]], *, first: bool = False
) -> int:
    """Send them in one transaction; how many were. ``app``: None where only the database is known.

    Payloads are JSON then, and the limits those of the defaults.
    """
    coding = _Coding(None if app is None else app.conf)
    signals = [coding.signal(*each) for each in given]
    names = sorted({each.name for each in signals})
    keys = [each.key for each in signals if each.key is not None]
    details = {
        "signal": ", ".join(names[:10]),
        **({"key": ", ".join(keys[:10])} if keys else {}),
        **({"first": True} if first else {}),
    }
    action = begin_action("signal_job", app, details=details)
    with database.joining():
        return database.steps.send_signals(signals, action.actor, action, is_first=first)


class _Coding:
    """How payloads are encoded, and how large they may be."""

    def __init__(self, conf: Any) -> None:
        self._serializer = "json" if conf is None else serializer_of(conf)
        self._limit: int = read_setting(conf or {}, "step_max_size")

    def signal(self, to: Any, name: str, payload: Any = None) -> Signal:
        check_name(name, "the name of a signal")
        task_id, key = address_of(to)
        return Signal(task_id, key, name, *self._encoded(name, payload))

    def _encoded(self, name: str, payload: Any) -> tuple[bytes, str]:
        try:
            value, value_type = encode_value(payload, self._serializer)
        except SerializationError as error:
            raise StepNotRemembered(
                f"the payload of signal {name!r} is what {self._serializer} cannot hold: {error}"
            ) from error
        if len(value) > self._limit:
            raise StepNotRemembered(
                f"the payload of signal {name!r} has {len(value):,} bytes, more than "
                f"pgjobs_step_max_size ({self._limit:,}): store the data, and send where it is"
            )
        return value, value_type


def address_of(to: Any) -> tuple[str | None, str | None]:
    """The task id or the key that a signal goes to; raises InvalidOption for neither."""
    if isinstance(to, Key):
        return None, check_name(str(to), "a key")
    if isinstance(to, ResultSet):
        raise InvalidOption(
            f"a signal goes to one job, and {to!r:.80} is a group of them: "
            "signal_many(app, [(each, name) for each in result.results])"
        )
    id = getattr(to, "task_id", None) or getattr(to, "id", None) or to
    if not isinstance(id, str):
        raise InvalidOption(
            f'a signal goes to a task id, a handle on a job or Key("..."), not to {to!r:.80}'
        )
    return check_name(id, "a task id"), None
