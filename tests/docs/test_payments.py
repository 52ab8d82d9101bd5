"""The example of payments, with a real worker that is killed while its calls are under way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgjobs_celery.db.dsn import parse_url

from ..support.waiting import wait_for
from .documents import ROOT

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples" / "payments"
ORDERS = 6
#: Seconds for all orders, on a busy machine.
LIMIT = 240.0

#: The worker's app, whose dead workers are missed sooner.
QUICK = """\
from tasks import app
app.conf.update(pgjobs_lease=4.0, pgjobs_heartbeat_interval=0.5)
"""
#: A web process: requests come in as lines of JSON, and answers go out.
WEB = """\
import json, sys
from fastapi.testclient import TestClient
from api import api
with TestClient(api) as client:
    for line in sys.stdin:
        path, body = json.loads(line)
        print(json.dumps(client.post(path, json=body).json()), flush=True)
"""


class Web:
    """A web process of the example."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WEB],
            cwd=folder, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def post(self, path: str, body: Any = None) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        with self._lock:
            self.process.stdin.write(json.dumps([path, body]) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())


class KilledWorker:
    """A worker that is started again whenever it was killed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder, self._env = folder, env
        self._lock = threading.Lock()
        self.kills = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["--concurrency", "2", "--without-mingle", "--without-gossip"]
        with (self._folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "quick", "worker", *options],
                cwd=self._folder, env=self._env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill it, with its pool, and start another."""
        with self._lock:
            self.end()
            self.kills += 1
            self._process = self._start()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def provider() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("payments_provider", EXAMPLE / "provider.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Provider() as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        yield provider
        provider.shutdown()


@pytest.fixture
def example(tmp_path: Path, url: str, provider: Any) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path / "payments"
    shutil.copytree(EXAMPLE, folder)
    (folder / "quick.py").write_text(QUICK)
    env = {
        **os.environ,
        "DATABASE_URL": url.replace("pgjobs:", "postgresql:", 1),
        "PROVIDER_URL": provider.url,
        "HOLD": "0.5",
        "PYTHONPATH": str(ROOT),
    }
    yield folder, env
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders, ledger, receipts_sent")


@pytest.fixture
def start(example: tuple[Path, dict[str, str]]) -> Iterator[Callable[[Any], Any]]:
    started: list[Any] = []

    def start(kind: Any) -> Any:
        started.append(kind(*example))
        return started[-1]

    yield start
    for each in started:
        if isinstance(each, KilledWorker):
            each.end()
        else:
            each.process.communicate(timeout=60)


def event(order: int) -> dict[str, Any]:
    return {"id": f"evt_{order}", "order": order, "amount": order * 10, "customer": f"{order}@x"}


def test_an_order_is_charged_booked_and_mailed_once_though_its_worker_is_killed(
    start: Callable[[Any], Any], provider: Any, url: str
):
    struck: set[str] = set()
    worker = start(KilledWorker)

    def strike(key: str) -> None:
        # Not for each: some jobs must have nothing to repeat.
        if len(struck) < 3 and key.split(":")[1] not in {each.split(":")[1] for each in struck}:
            struck.add(key)
            worker.kill()

    provider.on_effect = strike
    webs = [start(Web), start(Web)]
    # Each event comes twice, to two processes, at once.
    with ThreadPoolExecutor(4) as pool:
        deliveries = [
            [pool.submit(web.post, "/webhooks/orders", event(order)) for web in webs]
            for order in range(ORDERS)
        ]
        answers = [[each.result() for each in both] for both in deliveries]
    for both in answers:
        assert len({answer["job"] for answer in both}) == 1
        assert sorted(answer["again"] for answer in both) == [False, True]
    for order in range(ORDERS):
        approvals = [web.post(f"/orders/{order}/approve?by=alice")["approved"] for web in webs]
        assert sorted(approvals) == [False, True]
    with psycopg.connect(parse_url(url), autocommit=True) as connection:

        def count(table: str) -> int:
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
            return int(row[0]) if row else 0

        unfinished = "pgjobs.jobs WHERE finished_at IS NULL"
        wait_for(lambda: count("receipts_sent") >= ORDERS and not count(unfinished), LIMIT)
        assert (count("orders"), count("ledger"), count("receipts_sent")) == (ORDERS,) * 3
        assert count("pgjobs.jobs WHERE state <> 'completed'") == 0
        assert count("pgjobs.jobs") == 2 * ORDERS
    # Each step has had one effect, and the killed ones were asked for again: the test can fail.
    steps = [key.split(":")[1] for key in provider.answers]
    assert sorted(steps) == ["charge"] * ORDERS + ["mail"] * ORDERS
    assert {key.split(":")[1] for key in struck} == {"charge", "mail"}
    assert worker.kills == 2
    for key, calls in provider.calls.items():
        assert calls > 1 or key not in struck, key
