"""What open tabs cost the workers: the drain rate with them and without, by turns.

    python -m tests.web.tabs                  # 20 tabs, 3 rounds of 40,000 jobs each way
    python -m tests.web.tabs --tabs 50 --rounds 5

A tab is what pgjobs.js does: a stream of events, and at each the page once more, at the server's
pace, which is up to half a minute: a round has to take longer. Not a part of the suite: what it
measures depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import httpx
import psycopg

from pgjobs_celery import enqueue_many, queues
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.web import dashboard
from tests.e2e.conftest import producing, running_workers
from tests.support.waiting import wait_for

from .fleet import tasks
from .serving import served

#: What the tabs look at, by turns.
PAGES = ("/", "/jobs", "/queues", "/tasks")


@click.command()
@click.option("--tabs", default=20, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--jobs", default=40_000, show_default=True)
def main(tabs: int, rounds: int, jobs: int) -> None:
    """Print the rate of each round, and what the tabs cost."""
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        url = server.database_url("postgres")
        with migrations.session(parse_url(url)) as connection:
            migrations.migrate(connection, "pgjobs")
        with (
            producing(tasks.app, url) as app,
            running_workers(url, Path(folder), lambda _: None) as start,
            served(dashboard(url, role="admin")) as address,
        ):
            start(app="tests.web.fleet.tasks", concurrency=2, queues=["orders"])
            rates: dict[int, list[float]] = {0: [], tabs: []}
            drain(url, jobs // 20)
            for round in range(rounds):
                for number in (0, tabs) if round % 2 == 0 else (tabs, 0):
                    with opened(address, number) as looks:
                        wait_for(lambda: len(looks) >= number)  # noqa: B023
                        looks.clear()
                        rates[number].append(drain(url, jobs))
                    click.echo(f"{number} tabs: {rates[number][-1]:.0f} / s, {len(looks)} looks")
            without, within = (statistics.median(rates[number]) for number in (0, tabs))
            click.echo(f"the tabs cost {100 * (1 - within / without):.1f} %")
            del app


def drain(url: str, jobs: int) -> float:
    """Jobs a second, from the first that may run to the last that has."""
    control = queues(tasks.app)
    control.pause("orders")
    enqueue_many(tasks.nothing, ((n,) for n in range(jobs)), queue="orders")
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        query = "SELECT EXISTS (SELECT FROM pgjobs.jobs WHERE finished_at IS NULL)"
        control.resume("orders")
        begun = time.perf_counter()
        while (found := connection.execute(query).fetchone()) and found[0]:
            time.sleep(0.05)
    return jobs / (time.perf_counter() - begun)


@contextmanager
def opened(address: str, number: int) -> Iterator[list[str]]:
    """So many tabs, in a thread; the addresses that they have asked for."""
    looks: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(browse(address, number, looks, stop)))
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join()


async def browse(address: str, number: int, looks: list[str], stop: threading.Event) -> None:
    """Keep the tabs open until it is time."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
        tabs = [
            asyncio.create_task(tab(client, PAGES[each % len(PAGES)], looks))
            for each in range(number)
        ]
        while not stop.is_set():
            await asyncio.sleep(0.1)
        for each in tabs:
            each.cancel()
        await asyncio.gather(*tabs, return_exceptions=True)


async def tab(client: httpx.AsyncClient, page: str, looks: list[str]) -> None:
    """One of them."""
    await client.get(page)
    seen = 0.0
    with suppress(httpx.HTTPError):
        async with client.stream("GET", "/live") as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data: {") or "pace" not in line:
                    continue
                pace = float(json.loads(line[6:])["pace"])
                await asyncio.sleep(max(0.0, seen + pace - time.monotonic()))
                seen = time.monotonic()
                answer = await client.get(page, headers={"X-Live": "1"})
                answer.raise_for_status()
                looks.append(page)


if __name__ == "__main__":
    sys.exit(main())
