"""Name the actor: the audit records who changes jobs, queues and entries, and from where."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from celery import current_task

from ..config import read_setting
from ..db.rows.audit import Action
from ..errors import InvalidOption
from .app import find_app
from .filters import text

#: How long a name may be, in characters.
LONGEST = 255

#: How an action is asked for: ``celery pgjobs``, Django's admin, Celery's remote control and purge,
#: or a program's own call.
CLI, ADMIN, CONTROL, PROGRAM = "cli", "admin", "control", "program"

# Plain context variables: an asyncio task that a block starts still acts for the same person.
_acting: ContextVar[str | None] = ContextVar("pgjobs_acting_as", default=None)
_via: ContextVar[str] = ContextVar("pgjobs_via", default=PROGRAM)


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """In this block, what is done to jobs, queues and entries is recorded under this name.

    The name counts before any other, and passes to asyncio tasks that the block starts, but not
    to its threads, nor to the jobs that it publishes. Raises InvalidOption unless it is a text of 1
    to 255 characters.

        >>> with acting_as("alice@example.com"):
        ...     jobs(app).filter(queue="emails").cancel("wrong template")
    """
    token = _acting.set(checked(name))
    try:
        yield
    finally:
        _acting.reset(token)


@contextmanager
def acting_through(via: str, user: str | None = None) -> Iterator[None]:
    """In this block, actions come by this way, for this user where no other name is set."""
    tokens = _via.set(via), _acting.set(_acting.get() or (user and user[:LONGEST]) or None)
    try:
        yield
    finally:
        _via.reset(tokens[0])
        _acting.reset(tokens[1])


def begin_action(
    action: str, celery_app: Any = None, /, *, via: str | None = None, **known: Any
) -> Action:
    """An action that begins here: who does it, how and from where.

    ``known`` are the other fields of an :class:`~pgjobs_celery.db.rows.audit.Action`.
    """
    way = via or _via.get()
    return Action(action, find_actor(celery_app or find_app(), way), way, client(), **known)


def find_actor(app: Any, via: str) -> str:
    """The name to record: that of :func:`acting_as`, of ``pgjobs_actor``, or what runs here."""
    if (name := _acting.get()) is not None:
        return name
    chosen = None if app is None else read_setting(app.conf, "actor")
    if callable(chosen):
        chosen = chosen()
    if chosen is not None:
        return checked(chosen, "pgjobs_actor")
    if current_task:
        name = f"task {current_task.name}"
    elif via == CLI or program() == "celery":
        name = operator()
    else:
        name = f"{operator()} ({program()})"
    return storable(name)[:LONGEST]


def checked(name: Any, option: str = "acting_as()") -> str:
    """A name as the audit keeps it. Raises InvalidOption."""
    actor = text(option, name)
    if not 0 < len(actor) <= LONGEST:
        raise InvalidOption(f"{option} must have 1 to {LONGEST} characters, not {len(actor):,}")
    return actor


def operator() -> str:
    """The user at this machine: who has become another by sudo, if that is so."""
    return f"{os.environ.get('SUDO_USER') or os_user()}@{socket.gethostname()}"


def client() -> str:
    """``app@web-1, gunicorn, PID 4711``: the process, and in a worker the task that acts."""
    words = [f"{os_user()}@{socket.gethostname()}", program(), f"PID {os.getpid()}"]
    if current_task:
        words.append(f"task {current_task.request.id} on {current_task.request.hostname}")
    return storable(", ".join(words))


def storable(text: str) -> str:
    """A text that the system or a message has given, as a column can hold it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


@cache
def os_user() -> str:
    """The user that this process runs as: the system's word, not the environment's."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):  # Windows; a container whose user has no name
        return str(os.geteuid()) if hasattr(os, "geteuid") else os.environ.get("USERNAME", "?")


def program() -> str:
    """The name of the program, without its folder."""
    path = Path(sys.argv[0] if sys.argv else "python")
    return path.parent.name if path.name == "__main__.py" else path.name or "python"
