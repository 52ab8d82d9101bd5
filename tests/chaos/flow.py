"""Tasks with rates, limits of each key and turns, whose starts and ends the database notes.

What is held of whom, and since when, stands in ``chaos_held``: a trigger on the rows of jobs writes
it in the transaction of the claim, or of whatever ends it.
"""

from __future__ import annotations

import functools
import json
import os
import random
import time
from typing import Any

from celery import Celery

from pgjobs_celery import Concurrency, PgTask, Rate, queues

from . import tasks

URL = os.environ.get("PGJOBS_TEST_URL")
KEYS = [str(number) for number in range(8)]

app = Celery("tests.chaos.flow", broker=URL, backend=URL, set_as_current=False)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    task_publish_retry_policy={"max_retries": 100, "interval_max": 0.5},
)
app.conf.update(json.loads(os.environ.get("PGJOBS_TEST_CONF", "{}")))
# Whoever collects the tests imports this: other apps must not know tasks with keys.
app.task = functools.partial(app.task, shared=False)

#: The queues, by the rules that they have: none, fair, a limit of each key, one of all of it.
QUEUES = ["celery", "fair", "keyed", "capped"]

#: Of the ends of a claim the clock, as of its beginning: a claim sees what was committed after its
#: transaction began.
LEDGER = """
CREATE TABLE chaos_held (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job bigint, attempt integer, node uuid, queue text, lane text, cost integer,
  started timestamptz, begun timestamptz, ended timestamptz
);
CREATE INDEX ON chaos_held (job) WHERE ended IS NULL;
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE public.chaos_held SET ended = pg_catalog.clock_timestamp() WHERE job = OLD.id AND ended IS NULL;
  IF NEW.claimed_by IS NOT NULL THEN
    INSERT INTO public.chaos_held (job, attempt, node, queue, lane, cost, started, begun)
    VALUES (NEW.id, NEW.attempt, NEW.claimed_by, NEW.queue, NEW.lane, coalesce(NEW.cost, 1),
            NEW.attempted_at, pg_catalog.clock_timestamp());
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER UPDATE ON pgjobs.jobs FOR EACH ROW
WHEN (OLD.claimed_by IS DISTINCT FROM NEW.claimed_by OR OLD.attempt <> NEW.attempt)
EXECUTE FUNCTION chaos_note();
"""  # noqa: E501


def set_rules() -> None:
    """The rules of the queues; those of the tasks come with the workers."""
    control = queues(app)
    control["fair"].fair("key")
    control["keyed"].concurrency(2, by="key")
    control.limit("capped", 4)


class Late(tasks.Witnessed, PgTask):
    """Runs until it has completed, however often that is."""

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    max_attempts = 1000

    def backoff(self, job: Any) -> float:
        return random.uniform(0.05, 0.5)


class Early(tasks.Witnessed, PgTask):
    """Runs once, or not to its end."""

    abstract = True
    acks_late = False
    ignore_result = True


def work(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="common.late", base=Late, rate=Rate("30/2s", name="common"), tags=["tagged"])
def common(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="common.early", base=Early, rate=Rate("30/2s", name="common"))
def common_early(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="paced.late", base=Late, rate=Rate("6/3s", by="key"))
def paced(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="paced.early", base=Early, rate=Rate("6/3s", by="key"))
def paced_early(key: str, seconds: float) -> None:
    work(seconds)


@app.task(
    name="costly.late", base=Late, cost="cost",
    rate=Rate("20/2s", by="key", burst=10, algorithm="bucket"),
)  # fmt: skip
def costly(key: str, seconds: float, cost: int = 1) -> None:
    work(seconds)


@app.task(name="single.late", base=Late, concurrency=Concurrency(1, by="key"), tags=["tagged"])
def single(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="single.early", base=Early, concurrency=Concurrency(1, by="key"))
def single_early(key: str, seconds: float) -> None:
    work(seconds)


@app.task(
    name="both.late", base=Late, rate=Rate("5/s", by="key"), concurrency=Concurrency(2, by="key")
)
def both(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="local.late", base=Late, concurrency=Concurrency(1, by="key", scope="worker"))
def local(key: str, seconds: float) -> None:
    work(seconds)


@app.task(name="again.late", base=Late, bind=True, concurrency=Concurrency(3))
def again(self: PgTask, key: str, seconds: float) -> None:
    """Fails until its third attempt."""
    work(seconds)
    if self.request.attempt % 3:
        raise ValueError("again")


@app.task(name="free.late", base=Late)
def free(key: str, seconds: float) -> None:
    """Has no rule of its own: those of its queue count."""
    work(seconds)


@app.task(name="free.early", base=Early)
def free_early(key: str, seconds: float) -> None:
    work(seconds)
