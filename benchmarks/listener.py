"""Listen to workers' events, as Flower does: ``python -m benchmarks.listener COUNT``.

Says ``ready`` when it hears, and ends with one line of JSON, how many events of each type there
were: when COUNT tasks were received, started and have succeeded, or nothing has come for long.
"""

import json
import sys
from collections import Counter
from typing import Any

from celery.events import EventReceiver

from benchmarks.app import app

#: What is told of each task.
KINDS = ("received", "started", "succeeded")
#: For how long nothing must have come, in seconds.
QUIET = 30.0


class Listener(EventReceiver):  # type: ignore[misc]
    """Celery's, and says when it is ready."""

    def on_consume_ready(self, *_: Any, **__: Any) -> None:
        print("ready", flush=True)


def main() -> None:
    count = int(sys.argv[1])
    seen: Counter[str] = Counter()
    with app.connection_for_read() as connection:
        handlers = {"*": lambda event: seen.update([event["type"]])}
        try:
            for _ in Listener(connection, handlers=handlers, app=app).itercapture(timeout=QUIET):
                if min(seen[f"task-{kind}"] for kind in KINDS) >= count:
                    break
        except TimeoutError:
            pass
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
