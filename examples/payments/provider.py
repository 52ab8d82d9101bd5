"""A payment provider and a mail service, as they are on the other side of the network.

    python provider.py 8099

Each POST to /charges, /refunds and /mails has an ``Idempotency-Key``. The first one with a key has
an effect; the next ones get its answer again, and have none, as it is with Stripe and others.
``GET /calls`` tells how many came for each key, and how many had an effect.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Provider(ThreadingHTTPServer):
    """The server; what it has done is in memory."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        #: By the idempotency keys, in order: the answer, and how many requests have come.
        self.answers: dict[str, Any] = {}
        self.calls: dict[str, int] = {}
        self.lock = threading.Lock()
        #: Told of each request that had an effect, before it is answered: for tests.
        self.on_effect: Callable[[str], None] = lambda key: None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Provider

    def do_POST(self) -> None:
        """Have an effect, once for each key."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        provider = self.server
        with provider.lock:
            provider.calls[key] = provider.calls.get(key, 0) + 1
            is_new = key not in provider.answers
            if is_new:
                kind = self.path.strip("/").rstrip("s")
                provider.answers[key] = {"id": f"{kind}_{len(provider.answers) + 1}", **body}
        if is_new:
            provider.on_effect(key)
        self._answer(provider.answers[key])

    def do_GET(self) -> None:
        """Tell what was done."""
        provider = self.server
        with provider.lock:
            self._answer(
                {
                    key: {"calls": count, "effects": int(key in provider.answers)}
                    for key, count in provider.calls.items()
                }
            )

    def _answer(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at the calls."""


if __name__ == "__main__":
    Provider(int(sys.argv[1])).serve_forever()
