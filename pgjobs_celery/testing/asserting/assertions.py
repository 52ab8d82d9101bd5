"""Assert which jobs were enqueued: at once, or by the code in a block.

assert_enqueued(welcome, kwargs={"user_id": 7})

with assert_enqueued(welcome, count=2):
    import_users(file)
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any
from unittest import SkipTest
from uuid import UUID

from celery.result import ResultBase

from ...errors import InvalidOption, UnknownOption
from ...job.checks import did_you_mean
from ...job.states import State
from ...scopes.steady import monotonic
from ..capturing import escapes
from ..capturing.capture import Enqueued
from ..modes import find_testing, testing, unwrap
from .calls import Use, how_is_used
from .matching import Expected, get_signature
from .report import describe_escaped, describe_missing, describe_order, describe_unwanted
from .values import NOTHING

#: A failure is shown at the test's own line.
__tracebackhide__ = True

#: The words by which a job is described.
WORDS = frozenset(each.name for each in fields(Expected)) - {"task", "signature", "given"}
#: Seconds between two looks while an assertion waits on an event loop.
INTERVAL = 0.01


def expected(task: Any = None, **words: Any) -> Expected:
    """A description of a job, for arguments that take more than a task: ``chain=``, order.

    The words are those of :func:`assert_enqueued`. Raises UnknownOption and InvalidOption.
    """
    for name in words:
        if name not in WORDS:
            arguments = getattr(get_signature(task), "parameters", ())
            is_argument = name in arguments
            hint = f"; its arguments go into kwargs={{{name!r}: ...}}" if is_argument else ""
            raise UnknownOption(
                f"a job cannot be described by {name!r}{hint or did_you_mean(name, WORDS)}"
            )
    if "args" in words and not isinstance(words["args"], (list, tuple)):
        raise InvalidOption(f"args must be a list or tuple, not {words['args']!r}")
    if "kwargs" in words and not hasattr(words["kwargs"], "items"):
        raise InvalidOption(f"kwargs must be a dict, not {words['kwargs']!r}")
    given = dict(words)
    if "tags" in words:
        tags = [words["tags"]] if isinstance(words["tags"], str) else words["tags"]
        # As they are kept.
        words["tags"] = [tag.strip().lower() if isinstance(tag, str) else tag for tag in tags]
    app = get_app(task)
    for name in ("eta", "expires"):
        value = words.get(name)
        if isinstance(value, datetime) and value.tzinfo is None:
            # As Celery takes it when it is published.
            words[name] = value.replace(tzinfo=timezone.utc if app is None else app.timezone)
    if "queue" in words:
        words["queue"] = getattr(words["queue"], "name", words["queue"])
    for name in ("task_id", "group_id", "root_id", "parent_id"):
        value = words.get(name)
        if isinstance(value, (ResultBase, UUID)):
            words[name] = str(getattr(value, "id", value))
    _check_words(words)
    name = NOTHING if task is None else getattr(task, "name", task)
    if isinstance(task, Mapping) or not (task is None or isinstance(name, str)):
        raise InvalidOption(
            f"what is expected is a task or the name of one, with args= and kwargs=, not {task!r}"
        )
    found = Expected(task=name, signature=get_signature(task), given=given, **words)
    found.check()
    return found


#: The fields that are of one type in every job.
_KINDS: dict[str, tuple[Any, str]] = {
    "queue": (str, "the name of one"),
    "state": (str, "the name of one"),
    "priority": ((int, float), "a number"),
    "max_attempts": ((int, float, type(None)), "a number, or None"),
}


def _check_words(words: Mapping[str, Any]) -> None:
    """Raise InvalidOption for a description that no job can match."""
    if "task_id" in words and words["task_id"] is None:
        raise InvalidOption("task_id is None, and each job has one")
    for name, (kind, what) in _KINDS.items():
        value = words.get(name, NOTHING)
        # A type, a function or an object with its own comparison may fit.
        is_plain = value is None or isinstance(value, (str, int, float, Mapping, Sequence))
        if value is not NOTHING and is_plain and not isinstance(value, kind):
            raise InvalidOption(f"{name} is {value!r}, and that of each job is {what}")
    where = words.get("where")
    if where is not None and not callable(where):
        raise InvalidOption(f"where must be a function of the job, not {where!r}")
    state = words.get("state")
    if isinstance(state, str) and state not in list(State):
        states = [each.value for each in State]
        meant = did_you_mean(state, states) or f": {', '.join(states)}"
        raise InvalidOption(f"there is no state {state!r}{meant}")


def assert_enqueued(
    task: Any = None,
    *,
    count: int | None = None,
    timeout: float = 0.0,
    app: Any = None,
    block: bool = False,
    **words: Any,
) -> Assertion:
    """Raise AssertionError unless a job that matches is enqueued; return the matching jobs.

    ``count``: so many, and no more. ``timeout``: for how many seconds it may still come, from
    another thread or process. ``app``: for a task that is given by its name, or for any task, while
    several apps are being tested.

    As a block, ``with`` or ``async with``, it asserts the jobs that the block enqueues. A call in a
    ``with`` statement is recognised; elsewhere (``ExitStack``) give ``block=True``.

    The words: docs/reference/testing.md. Raises UnknownOption for another, and InvalidOption for an
    argument that the task does not have.
    """
    source = find_testing(app or get_app(task))
    assertion = Assertion(source, expected(task, **words), count, timeout, is_wanted=True)
    if count == 0:
        check_task(source, task)
    return assertion.begin(block)


def refute_enqueued(
    task: Any = None,
    *,
    timeout: float = 0.0,
    app: Any = None,
    block: bool = False,
    elsewhere: bool = False,
    **words: Any,
) -> Assertion:
    """Raise AssertionError if a job that matches is enqueued, or becomes so within ``timeout``.

    ``elsewhere``: the task is another program's, so that the app need not have one of this name.
    Raises InvalidOption for a name that it does not have, and if a function among the words raises:
    the assertion would always hold.
    """
    source = find_testing(app or get_app(task))
    assertion = Assertion(source, expected(task, **words), None, timeout, is_wanted=False)
    if not elsewhere:
        check_task(source, task)
    return assertion.begin(block)


def all_enqueued(
    task: Any = None, *, app: Any = None, elsewhere: bool = False, **words: Any
) -> list[Enqueued]:
    """The enqueued jobs that match, in the order in which they were published.

    ``elsewhere``, and what it raises: as of :func:`refute_enqueued`.
    """
    source = find_testing(app or get_app(task))
    wanted = expected(task, **words)
    if not elsewhere:
        check_task(source, task)
    if escaped := source.escaped(wanted.task or None):
        raise AssertionError(describe_escaped(wanted, escaped))
    pool = source.enqueued(wanted.task or None, is_any_state=wanted.state is not NOTHING)
    return wanted.select(pool, is_strict=True)


def check_task(source: testing, task: Any) -> None:
    """Raise InvalidOption for a task that the app under test cannot publish."""
    if task is None:
        return
    app, name = source.app, getattr(task, "name", task)
    own = unwrap(get_app(task))
    if own is not None and own is not app and own.finalized:
        raise InvalidOption(
            f"{name} is a task of app {own.main!r} and not of the one that is tested, "
            f"{app.main!r}: what it publishes goes elsewhere (a shared task belongs to the current "
            "app); test its app, or give its name"
        )
    if own is None and name not in app.tasks and not source.has_published(name):
        raise InvalidOption(
            f"app {app.main!r} has no task {name!r}{did_you_mean(str(name), app.tasks)}; import "
            "its module, or if it is another program's say elsewhere=True"
        )


def assert_enqueued_in_order(*steps: Any, app: Any = None) -> list[Enqueued]:
    """Raise AssertionError unless there is a job for each step, one after the other; returns them.

    A step is a task, or :func:`expected` of its job. Other jobs may come between.
    """
    if not steps:
        raise InvalidOption("no step is given, and nothing is always in order")
    wanted = [step if isinstance(step, Expected) else expected(step) for step in steps]
    source = find_testing(app or next(filter(None, map(get_app, steps)), None))
    pool = source.enqueued()
    found: list[Enqueued] = []
    rest: Iterator[Enqueued] = iter(pool)
    for step in wanted:
        job = next((job for job in rest if step.matches(job)), None)
        if job is None:
            after = found[-1] if found else None
            raise AssertionError(describe_order(wanted, len(found), after, pool))
        found.append(job)
    return found


def get_app(task: Any) -> Any:
    """The app of a task; None for a name."""
    return getattr(task, "app", None)


class Assertion(list[Enqueued]):
    """The matching jobs; and the block at whose end they are looked for."""

    def __init__(
        self,
        source: testing,
        expected: Expected,
        count: int | None,
        timeout: float,
        *,
        is_wanted: bool,
    ) -> None:
        super().__init__()
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise InvalidOption(f"count must be a whole number, not {count!r}")
        self._source = source
        self._expected = expected
        self._count = count
        self._timeout = timeout
        self._is_wanted = is_wanted
        self._after: int | None = None
        self._escapes: int | None = None

    def begin(self, is_block: bool) -> Assertion:
        """Look now, unless this is a block, which looks at its end; called two frames down."""
        if is_block:
            return self
        self._look()
        is_done = not self._escaped and (self._is_wanted or not self._timeout)
        if not (self._holds and is_done):
            use = how_is_used(2)
            if use is not Use.VALUE:
                return self
            self._wait()
            self._check()
        return self

    def __enter__(self) -> Assertion:
        self._after = self._source.last
        self._escapes = escapes.count()
        self.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None = None, *_: object
    ) -> None:
        # A block that raises is still checked: its exception may be caught.
        if error is None or _is_outcome(error):
            self._wait(0.0 if error is not None and self._is_wanted else self._timeout)
            self._check(error)

    async def __aenter__(self) -> Assertion:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None = None, *_: object
    ) -> None:
        if error is None or _is_outcome(error):
            await self._await(error)

    def __await__(self) -> Generator[Any, None, Assertion]:
        """Wait without blocking the event loop."""
        return self._await().__await__()

    async def _await(self, error: BaseException | None = None) -> Assertion:
        end = monotonic() + (0.0 if error is not None and self._is_wanted else self._timeout)
        self._look()
        while not self._is_settled and monotonic() < end:
            await asyncio.sleep(INTERVAL)
            self._look()
        self._check(error)
        return self

    @property
    def _holds(self) -> bool:
        if not self._is_wanted:
            return not self
        return bool(self) if self._count is None else len(self) == self._count

    @property
    def _escaped(self) -> list[str]:
        """The tasks published past every block, where a number or their absence is asserted."""
        if self._is_wanted and self._count is None:
            return []
        return self._source.escaped(self._expected.task or None, self._escapes)

    @property
    def _is_settled(self) -> bool:
        """True if waiting cannot change the result."""
        if not self._is_wanted:
            return bool(self)
        # One more than the number may come, but no wait can rule that out: it holds now.
        return self._holds or (self._count is not None and len(self) > self._count)

    def _look(self) -> bool:
        wanted = self._expected
        pool = self._source.enqueued(
            wanted.task or None, self._after, is_any_state=wanted.state is not NOTHING
        )
        # A function that raises cannot make a match; but it could make an absence or a number true.
        is_strict = not self._is_wanted or self._count is not None
        self[:] = wanted.select(pool, is_strict=is_strict)
        return self._is_settled

    def _wait(self, timeout: float | None = None) -> None:
        timeout = self._timeout if timeout is None else timeout
        if timeout and not self._is_wanted and not self and _is_on_event_loop():
            raise InvalidOption(
                "this would block the event loop, on which nothing is published meanwhile: write "
                "await refute_enqueued(..., timeout=...), or async with"
            )
        self._source.wait_until(self._look, timeout)

    def _check(self, error: BaseException | None = None) -> None:
        __tracebackhide__ = True
        if self._escaped and self._holds:
            raise AssertionError(describe_escaped(self._expected, self._escaped))
        if self._holds:
            return
        if not self._is_wanted:
            raise AssertionError(describe_unwanted(self._expected, self))
        pool = self._source.enqueued(None, self._after)
        numbers = {job.number for job in pool}
        others = [job for job in self._source.published(self._after) if job.number not in numbers]
        message = describe_missing(self._expected, self._count, self, pool, others)
        if error is not None:
            message = f"{message}\n\nand the block raised {type(error).__name__}: {error}"
        raise AssertionError(message)


def _is_outcome(error: BaseException) -> bool:
    """True for exceptions of the code under test; not for the test's own failure, or its end."""
    if isinstance(error, (AssertionError, SkipTest)):
        return False
    return isinstance(error, (Exception, SystemExit))


def _is_on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
