"""A web process to which each of some events is delivered, as to others at the same time.

    python -m tests.publishing.delivering URL STATEMENT

The answer to STATEMENT is cut off, with its connection, at every third event. Writes the id of the
job that each event has, and whether it is another delivery's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import Celery

from pgjobs_celery import PgTask

from ..support.proxies import Proxy

#: How many events there are.
DELIVERIES = 60


def main(url: str, statement: str) -> None:
    """Publish a job for each event."""
    with Proxy(url) as proxy:
        app = Celery("web", broker=proxy.url, set_as_current=False)

        @app.task(name="pay", base=PgTask, shared=False)
        def pay(order: int) -> None: ...

        pay.apply_async((0,), idempotency_key="warm", headers={})  # connections
        app.control.purge()
        print("ready", flush=True)
        sys.stdin.readline()
        found: list[Any] = []
        for event in range(DELIVERIES):
            if statement and event % 3 == 0:
                proxy.cut_answer(statement)
            result = pay.apply_async((event,), idempotency_key=f"evt_{event}")
            found.append((result.id, result.conflict))
        print(json.dumps({"jobs": found, "cuts": proxy.cuts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
