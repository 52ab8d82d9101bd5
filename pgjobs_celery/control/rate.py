"""Keep to a rate in code outside of jobs: ``with rate(app, "stripe", "100/s"):``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ..db.database import CONNECTION_ERRORS, Database
from ..db.rows.gates import Tokens
from ..errors import ConnectionFailed, InvalidOption, PgJobsError, RateExceeded
from ..job.checks import is_number
from ..job.flow import RATE, Rate, check_cost, flow_name, gate_name, key_text, rate_flow
from ..job.flow_options import capacity
from ..scopes.threads import in_thread
from .app import database_of

C = TypeVar("C", bound=Callable[..., Any])

#: How long to wait before a gate is asked again whose row another is making, in seconds.
SOON = 0.005
#: The longest sleep between two questions, in seconds: a rule may be changed meanwhile.
LONGEST = 5.0


class rate:  # noqa: N801
    """Wait for a token of a rate, as jobs with ``Rate(..., name=name)``: by the same counters.

        with rate(app, "stripe", "100/s"):
            stripe.charge(...)

    Also ``async with``, and as a decorator of functions and coroutine functions. Exact over all
    processes, by the database's clock: a caller takes the next free token at once, if that is at
    most a period ahead, and sleeps until its time. So callers are served in their order, and before
    jobs that wait. A caller that gives up then has spent its token.

    ``key``: the rate of one key, as a ``by`` of jobs has it. The rule counts for all that use the
    name: the last one that a program gives, unless one was set at run time. Without a ``limit`` it
    must be there already. ``timeout``: seconds after which entering the block raises RateExceeded,
    at once where its turn would come later; None to wait for as long as it takes.
    """

    def __init__(
        self,
        app: Any,
        name: str,
        limit: Any = None,
        *,
        key: Any = None,
        cost: int = 1,
        timeout: float | None = None,
        burst: int | None = None,
        algorithm: str = "window",
    ) -> None:
        given: Any = 1 if limit is None else limit
        rule = Rate(given, burst=burst, algorithm=algorithm, name=name)
        self._cost = check_cost(cost)
        if limit is not None and self._cost > capacity(rule):
            raise InvalidOption(
                f"{cost} tokens never fit into rate {name!r} ({limit}), which has {capacity(rule)} "
                "at once: raise the rate, or ask for less"
            )
        if timeout is not None and not (is_number(timeout) and timeout >= 0):
            raise InvalidOption(f"timeout must be seconds from 0, or None, not {timeout!r}")
        self.name = name
        self._timeout = timeout
        self._row = None if limit is None else rate_flow(rule, "", "")
        self._flow = flow_name(RATE, name)
        self._gate = gate_name(self._flow, None if key is None else key_text(key))
        self._app = app

    @functools.cached_property
    def _database(self) -> Database:
        return self._app if isinstance(self._app, Database) else database_of(self._app)

    def take(self, cost: int | None = None) -> bool:
        """Take a token if one is free; False, at once, if not."""
        return self.acquire(block=False, cost=cost)

    def acquire(
        self, block: bool = True, timeout: float | None = None, cost: int | None = None
    ) -> bool:
        """Take a token; wait for it where ``block``, for ``timeout`` seconds at most.

        False if there was none in that time.
        """
        turn = self._turn(block, timeout, cost)
        for wait in turn:
            time.sleep(wait)
        return turn.is_taken

    async def aacquire(
        self, block: bool = True, timeout: float | None = None, cost: int | None = None
    ) -> bool:
        """As :meth:`acquire`, in an asyncio program: the event loop goes on meanwhile."""
        turn = self._turn(block, timeout, cost)
        while (wait := await in_thread(next, turn, None)) is not None:
            await asyncio.sleep(wait)
        return turn.is_taken

    async def atake(self, cost: int | None = None) -> bool:
        """As :meth:`take`, in an asyncio program."""
        return await self.aacquire(block=False, cost=cost)

    def __enter__(self) -> rate:
        turn = self._turn(True, self._timeout, None)
        for wait in turn:
            time.sleep(wait)
        turn.check(self.name, self._timeout)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: a token is not given back."""

    async def __aenter__(self) -> rate:
        turn = self._turn(True, self._timeout, None)
        while (wait := await in_thread(next, turn, None)) is not None:
            await asyncio.sleep(wait)
        turn.check(self.name, self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing: a token is not given back."""

    def __call__(self, function: C) -> C:
        """A function that waits for a token each time before it is called."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def acalled(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return acalled  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]

    def _turn(self, block: bool, timeout: float | None, cost: int | None) -> Turn:
        tokens = self._cost if cost is None else check_cost(cost)
        seconds = (LONGEST if timeout is None else timeout) if block else 0.0
        until = None if block and timeout is None else time.monotonic() + seconds
        return Turn(functools.partial(self._ask, tokens), until)

    def _ask(self, cost: int, most: float) -> Tokens | None:
        """Ask the gate for so many tokens within ``most`` seconds."""
        database = self._database
        try:
            with database.beside():
                self._register(database)
                return database.gates.take_tokens(self._flow, self._gate, cost, most)
        except ConnectionFailed:
            raise
        except CONNECTION_ERRORS as error:
            raise ConnectionFailed(
                f"no token of rate {self.name!r} was got: the connection to the database was lost "
                f"({type(error).__name__}). Try again; a token that was taken all the same is spent"
            ) from error

    def _register(self, database: Database) -> None:
        known = database.named_flows
        if self._flow in known and (self._row is None or known[self._flow] == self._row):
            return
        if self._row is not None:
            database.flow_rules.name_flow(self._row)
        elif not database.gates.has_rule(self._flow):
            raise PgJobsError(
                f"there is no rate {self.name!r}: give its limit, as in "
                f'rate(app, {self.name!r}, "100/s"), or set it at run time'
            )
        known[self._flow] = self._row


class Turn:
    """The wait for tokens: iterate over the seconds to sleep."""

    def __init__(self, ask: Callable[[float], Tokens | None], until: float | None) -> None:
        self._ask = ask
        self._until = until
        self._wake_at: float | None = None
        #: The tokens are there.
        self.is_taken = False
        #: In how many seconds they would have been there.
        self.delay = 0.0

    def __iter__(self) -> Turn:
        return self

    def __next__(self) -> float:
        now = time.monotonic()
        if self._wake_at is not None:
            if self._wake_at > now:
                return self._wake_at - now
            self.is_taken = True
            raise StopIteration
        left = float("inf") if self._until is None else max(0.0, self._until - now)
        tokens = self._ask(left)
        if tokens is None:
            return SOON
        self.delay = tokens.delay
        if tokens.are_taken:
            self._wake_at = time.monotonic() + tokens.delay
            return next(self)
        if tokens.delay >= left:
            raise StopIteration
        # Further ahead than tokens are given out: it asks again when more are.
        return min(tokens.delay * random.uniform(0.5, 1.0), left, LONGEST)

    def check(self, name: str, timeout: float | None) -> None:
        """Raise RateExceeded if the tokens were not got."""
        if not self.is_taken:
            raise RateExceeded(
                f"rate {name!r} has no token within {timeout} s; the next one comes in "
                f"{self.delay:.3g} s",
                self.delay,
            )
