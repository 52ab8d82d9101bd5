"""What holds in a block holds for who has entered it, and for whom it is lent to."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pgjobs_celery.errors import CannotJoin
from pgjobs_celery.scopes import scopes
from pgjobs_celery.scopes.scopes import Loan, Scoped
from pgjobs_celery.scopes.threads import in_thread, in_thread_with


@pytest.fixture
def kind() -> Iterator[Scoped[str]]:
    kind: Scoped[str] = Scoped("tests")
    yield kind
    scopes._kinds.remove(kind)


def value(kind: Scoped[str]) -> str | None:
    scope = kind.find()
    return scope and scope.value


def test_what_is_entered_last_counts(kind: Scoped[str]):
    outer = kind.enter("outer")
    inner = kind.enter("inner")
    assert value(kind) == "inner"
    kind.leave(inner)
    assert value(kind) == "outer"
    kind.leave(outer)
    assert value(kind) is None


def test_blocks_that_end_in_the_wrong_order_end_all_the_same(kind: Scoped[str]):
    outer = kind.enter("outer")
    inner = kind.enter("inner")
    kind.leave(outer)
    assert value(kind) == "inner"
    kind.leave(inner)
    assert value(kind) is None


def test_other_threads_have_nothing_of_it(kind: Scoped[str]):
    kind.enter("mine")
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(value, kind).result() is None
        # Nor where the context goes along, as frameworks have it.
        assert threads.submit(contextvars.copy_context().run, value, kind).result() is None


def test_other_tasks_have_nothing_of_it(kind: Scoped[str]):
    async def find() -> str | None:
        return value(kind)

    async def work() -> None:
        scope = kind.enter("mine")
        assert await find() == "mine"
        assert await asyncio.create_task(find()) is None
        assert await asyncio.gather(find()) == [None]
        assert await asyncio.to_thread(value, kind) is None
        kind.leave(scope)

    kind.enter("the thread's")
    asyncio.run(work())
    assert value(kind) == "the thread's"


def test_a_block_in_a_generator_ends_when_another_context_closes_it(kind: Scoped[str]):
    async def opened() -> AsyncIterator[None]:
        scope = kind.enter("mine")
        try:
            yield
        finally:
            kind.leave(scope)

    async def work() -> None:
        generator = opened()
        await generator.__anext__()
        assert value(kind) == "mine"
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        assert value(kind) is None

    asyncio.run(work())


def test_what_goes_on_after_the_block_does_not_keep_the_value(kind: Scoped[Any]):
    class Session:
        pass

    async def work() -> None:
        session = Session()
        scope = kind.enter(session)
        going_on = asyncio.create_task(asyncio.Event().wait())
        kind.leave(scope)
        gone = weakref.ref(session)
        del session
        gc.collect()
        assert gone() is None
        going_on.cancel()

    asyncio.run(work())


def test_it_can_be_lent_to_a_thread(kind: Scoped[str]):
    async def work() -> None:
        assert await in_thread(value, kind) is None
        scope = kind.enter("mine")
        assert await in_thread(value, kind) == "mine"
        assert await in_thread_with(None, lambda: value(kind)) is None
        kind.leave(scope)
        assert await in_thread(value, kind) is None

    asyncio.run(work())


def test_a_loan_ends_with_the_block(kind: Scoped[str]):
    ended = threading.Event()

    def find() -> Any:
        ended.wait(10)
        return value(kind)

    async def work() -> None:
        scope = kind.enter("mine")
        finding = asyncio.create_task(in_thread_with(Loan(), find))
        await asyncio.sleep(0)
        kind.leave(scope)
        ended.set()
        with pytest.raises(CannotJoin, match="has ended"):
            await finding

    asyncio.run(work())


def test_a_thread_does_not_wait_for_a_loop_that_is_closed(
    kind: Scoped[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scopes, "CLOSED_AFTER", 0.05)
    seen: list[BaseException] = []

    def wait(loan: Loan) -> None:
        try:
            loan.have_done(loop, asyncio.Event().wait)
        except CannotJoin as error:
            seen.append(error)

    async def start() -> threading.Thread:
        kind.enter("mine")
        thread = threading.Thread(target=wait, args=(Loan(),))
        thread.start()
        await asyncio.sleep(0.1)
        return thread

    loop = asyncio.new_event_loop()
    thread = loop.run_until_complete(start())
    loop.close()
    thread.join(10)
    assert len(seen) == 1


def test_who_is_cancelled_waits_for_the_thread_which_can_do_nothing_more(kind: Scoped[str]):
    begun, go_on = threading.Event(), threading.Event()
    seen: list[BaseException] = []

    def find() -> None:
        begun.set()
        go_on.wait(10)
        try:
            value(kind)
        except BaseException as error:
            seen.append(error)
            raise

    async def work() -> None:
        kind.enter("mine")
        finding = asyncio.create_task(in_thread_with(Loan(), find))
        await asyncio.to_thread(begun.wait, 10)
        finding.cancel()
        await asyncio.sleep(0)
        finding.cancel()  # however often
        await asyncio.sleep(0)
        assert not finding.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await finding
        assert [type(error) for error in seen] == [asyncio.CancelledError]

    asyncio.run(work())
