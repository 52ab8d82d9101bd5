"""Fill a database as a day of the shop would: some jobs by a real worker, many more like them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from celery import Celery

from pgjobs_celery import acting_as, cron, jobs, queues, schedules
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.maintenance.fold import Fold
from tests.e2e.conftest import Worker, producing, running_workers
from tests.support.waiting import wait_for

from . import tasks

#: What a copy of a job has of its own, or not at all.
OWN = {"id", "seq", "task_id", "root_id", "parent_id", "unique_key", "given_key"}

#: Copies of the jobs that have ended, at times before them, more of them lately. One failure of
#: five is copied, so that most jobs succeed; those of webhooks are all of the last forty minutes.
#: Each waited and ran a little differently.
FINISHED = """
INSERT INTO pgjobs.jobs (task_id, root_id, {columns})
SELECT new_id, new_id, {values}
FROM (
  SELECT j.*, gen_random_uuid()::text AS new_id, mod(n, greatest(%(queues)s, 1)) AS queue_number,
         CASE WHEN j.task = 'webhooks.deliver' AND j.state = 'discarded' THEN 2400 * random()
              ELSE %(seconds)s * power((n - random()) / %(copies)s, 1.3)
         END * interval '1 second' AS back,
         power(random(), 6) * interval '4 seconds' AS waited,
         power(random(), 4) * interval '1 second' AS ran
  FROM pgjobs.jobs AS j, generate_series(1, %(copies)s) AS n
  WHERE j.finished_at IS NOT NULL AND j.root_id = j.task_id AND j.parent_id IS NULL
    AND (j.state = 'completed' OR mod(n, 5) = 0)
) AS made
ORDER BY back DESC
"""

#: What a column becomes; others stay as they are.
CHANGED = {
    "inserted_at": "inserted_at - back - waited",
    "scheduled_at": "scheduled_at - back - waited",
    "attempted_at": "attempted_at - back",
    "finished_at": "finished_at - back + ran",
    "failed_at": "failed_at - back + ran",
    "errors": """CASE WHEN errors = '[]' THEN errors ELSE (
      SELECT jsonb_agg(e.entry || jsonb_strip_nulls(jsonb_build_object(
        'at', (e.entry ->> 'at')::timestamptz - back,
        'began', (e.entry ->> 'began')::timestamptz - back)) ORDER BY e.number)
      FROM jsonb_array_elements(errors) WITH ORDINALITY AS e (entry, number)) END""",
}
#: With many queues: half of the jobs stay where they were.
SPREAD = {"queue": "CASE WHEN mod(queue_number, 2) = 0 THEN queue ELSE 'queue' || queue_number END"}

READY = """
INSERT INTO pgjobs.jobs (task_id, root_id, queue, {columns})
SELECT new_id, new_id, 'queue' || queue_number, {columns}
FROM (
  SELECT j.*, gen_random_uuid()::text AS new_id, mod(n, %(queues)s) AS queue_number
  FROM (SELECT * FROM pgjobs.jobs WHERE state = 'available' LIMIT 1) AS j,
       generate_series(1, %(ready)s) AS n
) AS made
"""

#: As if nothing had been counted since then. The lock waits for a worker that counts.
FORGET_COUNTS = """
WITH gone AS (DELETE FROM pgjobs.totals), forgotten AS (DELETE FROM pgjobs.history)
UPDATE pgjobs.fold
SET watermark = now() - %(hours)s * interval '1 hour', candidate = clock_timestamp(),
    holders = '{}',
    folded_at = '-infinity', counted_at = '-infinity', folding = 0, counting = 0
"""

#: Nobody looked then: more waited when more ended, and in waves.
WAITED = """
UPDATE pgjobs.history
SET ready = (succeeded + failed) * (1 + sin(extract(epoch FROM at) / 1700)) * 0.4, running = 2
WHERE ready IS NULL AND kind <> 'task'
"""

#: A name that no column has room for.
LONG = f"shop.integrations.{'very_'.join(['europe.'] * 14)}synchronise_everything"[:200]

COLUMNS = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = 'pgjobs.jobs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum
"""


class Fleet(NamedTuple):
    """A shop at work."""

    url: str
    app: Celery
    worker: Worker
    #: Jobs to look at, by what is remarkable about them.
    ids: dict[str, str]


@contextmanager
def shop_at_work(
    url: str,
    folder: Path,
    *,
    finished: int = 300,
    ready: int = 0,
    queues: int = 0,
    hours: float = 24,
) -> Iterator[Fleet]:
    """A worker that has run some jobs and still runs two, in a database with a day's jobs.

    About ``finished`` jobs have ended within so many ``hours``; with ``queues``, half of them in as
    many more queues, and ``ready`` jobs wait there, which no worker consumes.
    """
    hold = folder / "hold"
    hold.touch()
    with producing(tasks.app, url) as app, running_workers(url, folder, lambda _: None) as start:
        try:
            set_up(app)
            worker = start(
                app="tests.web.fleet.tasks",
                pool="threads",
                concurrency=4,
                queues=tasks.QUEUES,
                args=["--hostname", "shop@web1"],
                env={"PGJOBS_FLEET_HOLD": str(hold)},
            )
            ids = publish(app)
            wait_for(lambda: is_settled(url), 60, lambda: states(url))
            ids |= leave_waiting(app)
            multiply(url, finished, ready, queues, hours)
            count_anew(url, hours)
            act(app, ids)
            yield Fleet(url, app, worker, ids)
        finally:
            hold.unlink()


def set_up(app: Celery) -> None:
    """Entries of a beat, and a limit."""
    entries = schedules(app)
    entries.put("daily sales", "reports.build", cron("0 6 * * *"), ("2026-11",), missed="once")
    entries.put("reindex", "search.index", 300, ({"id": 1, "title": "All"},), missed="skip")
    entries.put("dunning", "mail.send", cron("30 9 * * mon-fri"), ("all@example.org", "dunning"))
    entries.put("cleanup", "images.resize", cron("0 3 1 * *"), ("old", [1]), missed="skip")
    entries.pause("cleanup")
    queues(app).limit("reports", 2)


def publish(app: Celery) -> dict[str, str]:
    """Jobs of each kind; those to look at by name."""
    ids: dict[str, str] = {}
    send = tasks.send_mail.delay
    for number in range(12):
        send(f"c{number}@example.org", ("receipt", "welcome", "shipped")[number % 3])
        tasks.index.delay({"id": number, "title": f"Chair no. {number}"})
        tasks.charge.delay(4711 + number, 1_990 + 250 * number, tasks.CUSTOMERS[number % 5])
        tasks.deliver.delay("https://hooks.example.com/in", "order.paid", {"order": number})
        if number % 2:
            tasks.resize.delay(f"upload/{3000 + number}.jpg", [320, 1280])
    for number in range(4):
        tasks.charge.delay(4800 + number, 99_900, tasks.CUSTOMERS[number], {"declined": True})
    for number in range(2):
        tasks.resize.delay(f"upload/{3800 + number}.heic", [320])
        tasks.index.delay({"id": 40 + number})
    ids["retried"] = send("patient@example.org", "welcome", fails=2).id
    ids["failed"] = tasks.deliver.delay(
        "https://hooks.example.com/broken", "order.paid",
        {"order": 4711, "customer": tasks.CUSTOMERS[0], "note": "🎉 <b>first</b> order",
         "api_key": "sk-very-secret",
         "lines": [{"sku": f"CH-{n}", "cents": 1990} for n in range(8)]},
    ).id  # fmt: skip
    tasks.order_workflow(5001).apply_async()
    canvas = tasks.order_workflow(5002, carrier="Owl Post").apply_async()
    while canvas.parent is not None:
        canvas = canvas.parent
    ids["canvas"] = canvas.id
    ids["running"] = tasks.build_report.apply_async(("2026-11",), priority=3).id
    tasks.build_report.apply_async(("2026-10", 80))
    return ids


def is_settled(url: str) -> bool:
    """True once only the two reports still run, both at the page where they wait."""
    found = states(url)
    return set(found) <= {"completed", "discarded", "executing"} and found["executing"] == 2


def states(url: str) -> dict[str, int]:
    """How many jobs are in each state."""
    with psycopg.connect(parse_url(url)) as connection:
        query = "SELECT state, count(*) FROM pgjobs.jobs GROUP BY state"
        return dict(connection.execute(query).fetchall())


def multiply(url: str, finished: int, ready: int, queues: int, hours: float) -> None:
    """More jobs like those that have ended and that wait."""
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        names = [name for (name,) in connection.execute(COLUMNS) if name not in OWN]
        changed = CHANGED | (SPREAD if queues else {})
        query = FINISHED.format(
            columns=", ".join(names), values=", ".join(changed.get(name, name) for name in names)
        )
        # Of some seventy that have ended.
        values = {"copies": max(finished // 60, 1), "seconds": hours * 3600, "queues": queues}
        connection.execute(query.encode(), values)
        if ready:
            names.remove("queue")
            query = READY.format(columns=", ".join(names))
            connection.execute(query.encode(), {"ready": ready, "queues": queues})
        connection.execute("VACUUM ANALYZE pgjobs.jobs")


def count_anew(url: str, hours: float) -> None:
    """Have totals and history count the copies too, and know how many jobs were in line."""
    database = Database(parse_url(url), Options())
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        with connection.transaction():
            connection.execute(FORGET_COUNTS, {"hours": hours})
        Fold(1_000).run(database)
        connection.execute(WAITED)
        connection.execute("VACUUM ANALYZE pgjobs.history")
    database.close()


def leave_waiting(app: Celery) -> dict[str, str]:
    """Jobs that wait for their time, and more in a queue that is paused."""
    soon = datetime.now(timezone.utc) + timedelta(hours=2)
    ids = {"scheduled": tasks.send_mail.apply_async(("c1@example.org", "review"), eta=soon).id}
    queues(app).pause("images")
    ids["long"] = app.send_task(LONG, ("مرحبا بالعالم", "👩‍👩‍👧‍👦" * 40), queue="images").id
    for number in range(8):
        ids["waiting"] = tasks.resize.delay(f"upload/{4000 + number}.jpg", [320, 1280]).id
    late = tasks.index.apply_async(({"id": 7, "title": "Lamp"},), countdown=3_600)
    ids["late"] = late.id
    return ids


def act(app: Celery, ids: dict[str, str]) -> None:
    """What people did: it is in the audit."""
    with acting_as("alice"):
        jobs(app).filter(id=ids["late"]).cancel(reason="the lamp is sold out")
    with acting_as("bob"):
        jobs(app).filter(id=ids["scheduled"]).set_priority(5)


def describe(fleet: Fleet) -> dict[str, Any]:
    """For messages of failed tests."""
    return {"states": states(fleet.url), "log": fleet.worker.log[-2_000:]}
