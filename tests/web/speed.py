"""How fast the page is over many jobs, and what it costs the workers.

    python -m tests.web.speed                # 1,000,000 finished, 100,000 ready, 100 queues
    python -m tests.web.speed --finished 100000 --ready 10000
    python -m tests.web.speed --keep DIR     # the data stay there, for the next time

Each page that links lead to is asked five times through a real server: the median, its size, and
its statements with their plans, as PostgreSQL itself has logged them (auto_explain). Not a part of
the suite; tests/web/test_speed.py does the same with fewer rows.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.migrations import migrate as migrations
from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.web import dashboard

from .crawl import crawl
from .fleet.filling import shop_at_work
from .plans import Plans, explained
from .serving import served

#: What a page may take, in milliseconds, and the first one weigh, with what it loads, in kB.
SLOW, HEAVY = 200, 150

console = Console(highlight=False, width=150)


@click.command()
@click.option("--finished", default=1_000_000, show_default=True)
@click.option("--ready", default=100_000, show_default=True)
@click.option("--queues", default=100, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Where the data are, or go.")
@click.option("--only", default="", help="Pages whose address contains this.")
def main(finished: int, ready: int, queues: int, keep: Path | None, only: str) -> None:
    """Fill a database, and measure each page."""
    with EmbeddedServer(
        keep, settings={"shared_buffers": "512MB", "max_wal_size": "4GB"}
    ) as server:
        url = server.database_url("postgres")
        with migrations.session(parse_url(url)) as connection:
            migrations.migrate(connection, "pgjobs")
        with tempfile.TemporaryDirectory() as folder:
            if count(url) < finished // 2:
                begun = time.monotonic()
                with shop_at_work(
                    url, Path(folder), finished=finished, ready=ready, queues=queues, hours=23
                ):
                    pass
                console.print(f"filled in {time.monotonic() - begun:.0f} s: {count(url)} rows")
            measure(url, Plans(server.log), only)


def count(url: str) -> int:
    """How many jobs there are."""
    with psycopg.connect(parse_url(url)) as connection:
        found = connection.execute("SELECT count(*) FROM pgjobs.jobs").fetchone()
    assert found
    return int(found[0])


def measure(url: str, plans: Plans, only: str) -> None:
    """Print how long each page takes, and which of its statements."""
    table = Table("page", "ms", "first", "kB", "statements", "slowest statement", "ms", "seq scans")
    with (
        served(dashboard(url, role="admin")) as address,
        served(dashboard(explained(url), role="admin")) as logged,
        httpx.Client(base_url=address, timeout=120) as client,
        httpx.Client(base_url=logged, timeout=120) as logging,
    ):
        for link in crawl(lambda link: client.get(link).text, each=6):
            if only not in link:
                continue
            times = []
            for _ in range(6):
                begun = time.perf_counter()
                answer = client.get(link)
                times.append((time.perf_counter() - begun) * 1000)
            plans.forget()
            logging.get(link)
            ran = plans.read()
            slowest = max(ran, key=lambda plan: plan.milliseconds, default=None)
            median = statistics.median(times[1:])
            mark = "[red]" if median > SLOW else ""
            table.add_row(
                f"{answer.status_code if answer.status_code != 200 else ''} {link[:60]}",
                f"{mark}{median:.0f}",
                f"{times[0]:.0f}",
                f"{len(answer.content) / 1000:.0f}",
                str(len(ran)),
                slowest.name if slowest else "",
                f"{slowest.milliseconds:.1f}" if slowest else "",
                ", ".join(sorted({plan.name for plan in ran if plan.scans("jobs")})),
            )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
