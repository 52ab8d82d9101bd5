"""Publish in an asyncio program, without blocking its event loop.

    result = await adelay(add, 2, 2)

Works with the tasks of any app. Celery's code runs in a thread, of which there are a few.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine
from typing import Any

from .using import publish


def adelay(task: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
    """``task.delay(*args, **kwargs)``, for a task or any signature; to be awaited for its result.

    Raises what ``delay`` raises. Within :func:`~pgjobs_celery.using` it takes part if it is called
    there, also where ``asyncio.gather`` or a task awaits it, and must be awaited before its end.
    """
    return publish(functools.partial(task.delay, *args, **kwargs))


def aapply_async(task: Any, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
    """``task.apply_async(args, kwargs, **options)``, as :func:`adelay`.

    Raises what ``apply_async`` raises.
    """
    return publish(functools.partial(task.apply_async, *args, **options))
