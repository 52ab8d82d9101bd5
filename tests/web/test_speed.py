"""No page reads all jobs, however many there are; tests/web/speed.py has a million of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pgjobs_celery.embedded import EmbeddedServer
from pgjobs_celery.web import dashboard

from .conftest import Browser
from .crawl import crawl
from .fleet.filling import shop_at_work
from .plans import Plans, explained

FINISHED, READY, QUEUES = 60_000, 6_000, 30

#: Tables that grow with the work, so that a page may not read one as a whole.
TALL = ("jobs",)


@pytest.mark.e2e
def test_no_statement_of_any_page_reads_all_jobs(
    server: EmbeddedServer, make_migrated: Callable[[], str], tmp_path: Path
):
    url = make_migrated()
    with shop_at_work(url, tmp_path, finished=FINISHED, ready=READY, queues=QUEUES) as fleet:
        pass
    plans = Plans(server.log)
    names: set[str] = set()
    found: list[str] = []

    with Browser(dashboard(explained(url), role="admin"), base_url="http://page") as browser:

        def get(link: str) -> str:
            plans.forget()
            page = browser.get(link)
            assert page.status_code == 200, f"{link}: {page.text}"
            ran = plans.read()
            names.update(plan.name for plan in ran)
            for plan in ran:
                found.extend(f"{link}: {plan.name}: {table}" for table in TALL if plan.scans(table))
            return page.text

        crawl(get, *(f"/job?id={task_id}" for task_id in fleet.ids.values()), each=8)

    assert "find_lines" in names, "no plan was logged"
    assert not found, "\n".join(sorted(set(found)))
