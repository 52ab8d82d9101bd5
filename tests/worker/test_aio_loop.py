"""The event loop of the pool for coroutines, by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("greenlet")

from pgjobs_celery.worker.aio.loop import LoopThread, new_loop


def test_it_is_uvloops_where_that_is_installed():
    loop = new_loop()
    try:
        expected = "uvloop" if find_spec("uvloop") else "asyncio"
        assert type(loop).__module__.partition(".")[0] == expected
    finally:
        loop.close()


def test_without_uvloop_it_is_asyncios():
    program = (
        "import sys; sys.modules['uvloop'] = None\n"
        "from pgjobs_celery.worker.aio.loop import new_loop\n"
        "print(type(new_loop()).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.startswith(b"asyncio")


def test_what_still_runs_in_it_ends_with_it_and_the_thread_too():
    thread = LoopThread(lambda: None)
    thread.start()
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("finally")

    thread.ask(lambda: thread.loop.create_task(wait()))
    assert thread.ask(lambda: len(asyncio.all_tasks())) == 1
    thread.stop()

    assert ended == ["finally"]
    assert thread.loop.is_closed()
