"""A task with a memory: steps that run once, sleeps, and signals that it waits for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ..errors import InvalidOption, SignalTimeout, StepNotRemembered
from ..job.exceptions import LONGEST_DELAY, Suspended, Suspension
from ..job.steps import Kind, Wait, check_name, time_of, timeout_of
from ..publishing.using import using as using_connection
from ..scopes.threads import in_thread
from .attempts import AttemptedTask
from .steps import RAISE, StepRun, require_function, step_run

#: An attempt that has failed by these fails again: they are remembered, or not to be remembered.
FINAL_ERRORS = (SignalTimeout, StepNotRemembered)


class SteppedTask(AttemptedTask):
    """The part of :class:`~pgjobs_celery.PgTask` that remembers."""

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        using: Any = None,
        **kwargs: Any,
    ) -> Any:
        """``function(*args, **kwargs)``, once for the job: later runs get what it has returned.

        A second step of a name is ``name#2``, and so on. What it returns goes through the result
        serializer, and must not be larger than ``pgjobs_step_max_size``. A step that raises is not
        remembered, and runs again with the next attempt. With ``using=connection``, or within
        :class:`~pgjobs_celery.using` or ``transaction()``, the memory is part of that transaction.
        Raises ClaimLost once another worker has the job.

            >>> charge = self.step("charge", charge, amount, key=self.step_key("charge"))
        """
        run = step_run(self)
        step = run.begin(name)
        if step.memory is not None:
            return run.value(step.name, step.memory)
        function = require_function(function)
        if using is None:
            return run.returned(step, _settled(function(*args, **kwargs)))
        with using_connection(using):
            return run.returned(step, _settled(function(*args, **kwargs)))

    def step_key(self, name: str) -> str:
        """The idempotency key for another service, of the next step of this name.

        The job's id and the step's name: it is the same in each run of the job, also where the step
        has called the service, and the process was killed before it was remembered.

            >>> self.step("charge", charge, amount, key=self.step_key("charge"))
        """
        return step_run(self).key_of(name)

    async def astep(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        using: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As :meth:`step`, in an ``async def`` task; ``function`` may be a coroutine function."""
        run = step_run(self)
        step = await in_thread(run.begin, name)
        if step.memory is not None:
            return run.value(step.name, step.memory)
        function = require_function(function)
        if using is None:
            value = await _awaited(function(*args, **kwargs))
            return await in_thread(run.returned, step, value)
        async with using_connection(using):
            value = await _awaited(function(*args, **kwargs))
            return await in_thread(run.returned, step, value)

    def patched(self, name: str) -> bool:
        """Whether the job takes a changed way: True for one that has not passed this place.

        The answer is remembered. For a job that began under the older code, and has done steps
        that this run has still to come to, it is False.

            >>> if self.patched("mail-by-api"):
            ...     self.step("mail", send_by_api, order)
            ... else:
            ...     self.step("mail", send_by_smtp, order)
        """
        return _patched(step_run(self), name)

    async def apatched(self, name: str) -> bool:
        """As :meth:`patched`, in an ``async def`` task."""
        return await in_thread(_patched, step_run(self), name)

    def sleep_until(self, when: datetime) -> None:
        """Go on at that time, in another run: the job holds no worker, no connection, no attempt.

        The code before it is run again then, but for the steps.
        """
        _pass(step_run(self), _until(when), RAISE)

    def sleep_for(self, duration: float | timedelta) -> None:
        """Go on after so many seconds, or a timedelta, by the database's clock.

        Counted from when the job first came here. As :meth:`sleep_until`.
        """
        _pass(step_run(self), _during(duration), RAISE)

    def wait_for(
        self,
        name: str,
        timeout: float | timedelta | None = None,
        *,
        key: str | None = None,
        default: Any = RAISE,
    ) -> Any:
        """The payload of the signal of this name: see :func:`pgjobs_celery.signal`.

        One that is there already is taken at once. Otherwise the job waits, as in
        :meth:`sleep_until`. It is found by its task id, and by ``key`` where one is given. Without
        a signal in ``timeout`` seconds, or a timedelta, this returns ``default``, or raises
        SignalTimeout, which ends the job where the task does not catch it: it is remembered too.

            >>> decision = self.wait_for("approved", timedelta(days=7), default=None)
        """
        return _pass(step_run(self), _for_signal(name, timeout, key), default)

    async def asleep_until(self, when: datetime) -> None:
        """As :meth:`sleep_until`, in an ``async def`` task."""
        await in_thread(_pass, step_run(self), _until(when), RAISE)

    async def asleep_for(self, duration: float | timedelta) -> None:
        """As :meth:`sleep_for`, in an ``async def`` task."""
        await in_thread(_pass, step_run(self), _during(duration), RAISE)

    async def await_for(
        self,
        name: str,
        timeout: float | timedelta | None = None,
        *,
        key: str | None = None,
        default: Any = RAISE,
    ) -> Any:
        """As :meth:`wait_for`, in an ``async def`` task."""
        return await in_thread(_pass, step_run(self), _for_signal(name, timeout, key), default)

    def _is_retried_for(self, error: BaseException) -> bool:
        return not isinstance(error, FINAL_ERRORS) and super()._is_retried_for(error)

    def _suspend(self, request: Any, suspended: Suspended) -> Any:
        delay = LONGEST_DELAY if suspended.delay is None else max(0.0, suspended.delay)
        self._postpone_for(request, Suspension(suspended.what), min(delay, LONGEST_DELAY))


# The run is found where the task runs: a thread that works for a coroutine has no request.


def _pass(run: StepRun, wait: Wait, default: Any) -> Any:
    step = run.begin(wait.step)
    wait = wait._replace(step=step.name)
    if step.memory is not None:
        return run.passed(wait, step.memory, default)
    return run.wait(wait, default)


def _patched(run: StepRun, name: str) -> bool:
    step = run.begin(name)
    if step.memory is not None:
        return True
    if run.is_replaying():
        return False
    run.returned(step, True, Kind.PATCH)
    return True


def _until(when: datetime) -> Wait:
    return Wait("sleep", until=time_of(when))


def _during(duration: float | timedelta) -> Wait:
    return Wait("sleep", delay=timeout_of(duration, "sleep_for()"))


def _for_signal(name: str, timeout: float | timedelta | None, key: str | None) -> Wait:
    check_name(name, "the name of a signal")
    if key is not None:
        check_name(key, "a key")
    return Wait(name, name, key, delay=timeout_of(timeout, "the timeout of wait_for()"))


def _settled(value: Any) -> Any:
    """The value of a function that was called; raises InvalidOption for a coroutine."""
    if inspect.iscoroutine(value):
        value.close()
        raise InvalidOption("the function of the step is a coroutine: `await self.astep(...)`")
    return value


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
