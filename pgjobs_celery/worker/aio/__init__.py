"""A pool for ``async def`` tasks: thousands of waiting coroutines in one process.

    CELERY_CUSTOM_WORKER_POOL=pgjobs_celery.worker.aio:TaskPool celery worker --pool custom -c 1000

or ``app.conf.worker_pool = "pgjobs_celery.worker.aio:TaskPool"``. Install ``pgjobs-celery[aio]``.
"""

from .pool import TaskPool

__all__ = ["TaskPool"]
