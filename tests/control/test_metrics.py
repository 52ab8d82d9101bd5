"""A scrape shows what is in the database, in a format that parsers read, whatever the names are."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest, openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from pgjobs_celery.control.flows import Flows
from pgjobs_celery.control.metrics import (
    METRICS,
    OTHER,
    Reading,
    add_lines,
    add_waits,
    as_data,
    read_metrics,
)
from pgjobs_celery.control.prometheus import Collector, exposition
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.rows.audit import Action
from pgjobs_celery.db.rows.claims import Pending
from pgjobs_celery.db.rows.metrics import Counted, Line, Waiting
from pgjobs_celery.job.flow import FlowRow
from pgjobs_celery.job.outcome import completed, discarded, error_entry
from pgjobs_celery.job.rows import Bucket
from pgjobs_celery.job.steps import Signal
from pgjobs_celery.maintenance.fold import lengths
from pgjobs_celery.maintenance.throttle import Throttle
from pgjobs_celery.node.lanes import KnownLanes
from tests.maintenance.test_fold import Connection, Impatient
from tests.support.lanes import put_laned, rule
from tests.support.rows import put
from tests.support.waiting import wait_for

NODE = UUID(int=1)

#: In a name: what ends a label, a line, a text; what turns the writing round; an emoji.
HOSTILE = 'a"b\\n\\"c\nd} 1\r\te\x1b[31m\u202e\u2066x\u2028\N{PILE OF POO}{}\'%s é'

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def fold(database: Database, connection: Connection) -> Callable[[], None]:
    connection.execute("DELETE FROM pgjobs.fold")
    database.metrics.begin_fold()
    database.nodes.beat_node(NODE, "celery@web", ["celery", "mail"], 3600.0)
    return lambda: (Impatient(100).run(database), None)[1]


def samples(text: str, *, is_openmetrics: bool = False) -> Samples:
    """What a parser makes of a scrape; nothing may be there twice."""
    found: Samples = {}
    for family in (read_openmetrics if is_openmetrics else read_text)(text):
        assert family.name.removesuffix("_total") in METRICS
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Samples, sample: str, /, **labels: str) -> float:
    return found[sample, frozenset(labels.items())]


def test_a_scrape_tells_of_jobs_queues_and_workers(database, connection, fold):
    put(database, "a", "b", "c", "d")
    put(database, "e", queue="mail", eta=60)
    first, second = database.claims.claim_jobs(NODE, "n", [Bucket("celery", 0, 255, 0)], 2)[0]
    database.claims.settle_jobs(NODE, [completed(first)])
    database.claims.settle_jobs(NODE, [discarded(second, error_entry("ValueError", "no"))])
    database.claims.claim_jobs(NODE, "n", [Bucket("celery", 0, 255, 0)], 1)
    connection.execute(
        "UPDATE pgjobs.jobs SET finished_at = attempted_at + interval '0.3 second',"
        " scheduled_at = attempted_at - interval '0.05 second' WHERE task_id = 'a'"
    )
    connection.execute("UPDATE pgjobs.nodes SET lost_claims = 7, details = '{\"slots\": 4}'")
    Queues(database).pause("mail")
    Queues(database).limit("celery", 9)
    fold()
    found = samples(exposition(read_metrics(database, 100))[0].decode())
    task = {"name": "tasks.add", "queue_name": "celery"}
    assert value(found, "celery_task_received_total", **task) == 2
    assert value(found, "celery_task_succeeded_total", **task) == 1
    assert value(found, "celery_task_failed_total", **task, exception="ValueError") == 1
    assert value(found, "celery_task_runtime_count", **task) == 1
    assert value(found, "celery_task_runtime_sum", **task) == 0.3
    assert value(found, "celery_task_runtime_bucket", **task, le="0.25") == 0
    assert value(found, "celery_task_runtime_bucket", **task, le="0.5") == 1
    assert value(found, "celery_task_runtime_bucket", **task, le="+Inf") == 1
    # A value at the bound is in the bucket.
    assert value(found, "celery_task_queue_wait_time_bucket", **task, le="0.05") >= 1
    assert value(found, "celery_queue_length", queue_name="celery") == 1
    assert value(found, "celery_queue_length", queue_name="mail") == 0
    assert value(found, "pgjobs_jobs", queue_name="celery", state="executing") == 1
    assert value(found, "pgjobs_jobs", queue_name="mail", state="scheduled") == 1
    assert value(found, "pgjobs_queue_paused", queue_name="mail") == 1
    assert value(found, "pgjobs_queue_limit", queue_name="celery") == 9
    assert value(found, "celery_worker_up", hostname="celery@web") == 1
    assert value(found, "celery_worker_tasks_active", hostname="celery@web") == 1
    assert value(found, "pgjobs_worker_lost_claims_total", hostname="celery@web") == 7
    assert value(found, "celery_active_worker_count", queue_name="mail") == 1
    assert value(found, "celery_active_process_count", queue_name="mail") == 4
    for name in ("pgjobs_table_bytes", "pgjobs_connections", "pgjobs_fold_age_seconds"):
        assert value(found, name) >= 0
    connection.execute("UPDATE pgjobs.nodes SET heartbeat_at = now() - interval '2 hours'")
    found = samples(exposition(read_metrics(database, 100))[0].decode())
    assert value(found, "celery_worker_up", hostname="celery@web") == 0
    assert value(found, "celery_active_worker_count", queue_name="mail") == 0


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_hostile_names_come_out_whole_and_do_no_harm(database, connection, fold, accept):
    put(database, "a", task=HOSTILE, queue="celery")
    put(database, "b", task=HOSTILE, queue=HOSTILE)
    (claim,) = database.claims.claim_jobs(NODE, "n", [Bucket("celery", 0, 255, 0)], 1)[0]
    database.claims.settle_jobs(NODE, [discarded(claim, error_entry(HOSTILE, "no"))])
    database.nodes.beat_node(NODE, HOSTILE, [HOSTILE], 3600.0)
    fold()
    text, content_type = exposition(read_metrics(database, 100), accept)
    assert ("openmetrics" in content_type) == bool(accept)
    found = samples(text.decode(), is_openmetrics=bool(accept))
    failed = {"name": HOSTILE, "queue_name": "celery", "exception": HOSTILE}
    assert value(found, "celery_task_failed_total", **failed) == 1
    assert value(found, "celery_queue_length", queue_name=HOSTILE) == 1
    assert value(found, "celery_worker_up", hostname=HOSTILE) == 1
    json.dumps(as_data(read_metrics(database, 100)))


def test_queues_beyond_the_limit_are_shown_together():
    reading = Reading()
    lines = [
        Line("a", "available", None, 1, 5.0),
        Line("b", "available", None, 2, 6.0),
        Line("c", "available", None, 4, 7.0),
    ]
    add_lines(reading, lines, {"a"})
    assert reading.values["celery_queue_length"] == {("a",): 1, ("other",): 6}
    assert reading.values["pgjobs_oldest_ready_seconds"] == {("a",): 5.0, ("other",): 7.0}


def test_the_length_of_a_long_line_is_estimated_from_its_head():
    run = Counted("q", "executing", NODE, 3, 9.0, 1, 5, 2000)
    head = Counted("q", "available", None, 100, 4.0, 10, 208, 2000)
    found = {(line.state, line.node): line for line in lengths([run, head])}
    assert found["executing", NODE].jobs == 3
    assert found["available", UUID(int=0)].jobs == pytest.approx(100 + 1792 / 2, abs=2)
    # Another priority of the queue adds to it; what was read to its end is as it is.
    two = [head, Counted("q", "available", None, 7, 99.0, 5, 70, 70)]
    [line] = lengths(two)
    assert (line.jobs, line.oldest) == (pytest.approx(1003, abs=2), 99.0)


def test_lines_are_read_to_a_depth_and_no_further(database, connection, fold, monkeypatch):
    from pgjobs_celery.db.rows import metrics

    monkeypatch.setattr(metrics, "DEPTH", 20)
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, priority)"
        " SELECT 'j' || n, 't', 'q' || n % 2, '{}', 'b', n % 3 FROM generate_series(1, 600) AS n"
    )
    counted = database.metrics.count_lines()
    assert {(each.queue, each.jobs) for each in counted} == {("q0", 10), ("q1", 10)}
    assert len(counted) == 6
    fold()
    lines = {line.queue: line.jobs for line in database.metrics.list_lines() if line.jobs}
    assert lines == {"q0": pytest.approx(300, rel=0.15), "q1": pytest.approx(300, rel=0.15)}


def test_a_registry_of_prometheus_clients_own_takes_the_collector(database, fold):
    fold()
    registry = CollectorRegistry()
    registry.register(Collector(lambda: read_metrics(database, 100)))
    assert samples(generate_latest(registry).decode())
    assert openmetrics.exposition.generate_latest(registry).endswith(b"# EOF\n")


def test_a_scrape_without_jobs_names_all_metrics(database, fold):
    text = exposition(read_metrics(database, 100))[0].decode()
    assert {family.name.removesuffix("_total") for family in read_text(text)} == set(METRICS)


def test_looks_that_left_jobs_waiting_are_counted_by_queue_and_reason(database):
    rule(database, FlowRow("rate/x", 1, 3600.0), FlowRow("running/y", 1))
    put_laned(database, "rate/x", "a", "b", queue="mail")
    put_laned(database, "running/y", "c", "d", queue="exports")
    put(database, "e", queue="plain")
    lanes = KnownLanes()
    lanes.learn(database.claims.turn(NODE, Pending(), [Bucket("mail", is_laned=True)], 1), [])
    assert not lanes.throttled  # a worker that is past its lease has not looked
    database.nodes.beat_node(NODE, "celery@web", ["mail", "exports"], 3600.0)
    throttle = Throttle(lanes.throttled)
    throttle.limit = 100

    def look(queue: str) -> list[str]:
        """As a worker does, until a look finds nothing more."""
        found = []
        gates: tuple[str, ...] = ()
        while True:
            bucket = Bucket(queue, is_laned=True, gates=gates)
            turn = database.claims.turn(NODE, Pending(), [bucket], 10)
            if turn.lanes is None or not turn.lanes.gates:
                lanes.learn(turn, [bucket])
            found += [claim.queue for claim in turn.claims]
            if turn.lanes is None or not (turn.claims or turn.lanes.gates):
                return found
            gates = turn.lanes.gates

    assert look("mail") == ["mail"]
    assert look("exports") == ["exports"]
    assert look("mail") == []
    throttle.run(database)
    seen = dict(lanes.throttled)
    assert set(seen) == {("mail", "rate"), ("exports", "running")}
    assert seen["mail", "rate"] >= 2
    throttle.run(database)  # nothing new
    # Another worker.
    other = Throttle({("mail", "rate"): 5, ("x" * 500, "rate"): 1, ("y", "rate"): 1})
    other.limit = 3
    other.run(database)
    found = metrics_of(database)
    name = "pgjobs_throttled_total"
    assert value(found, name, queue_name="mail", reason="rate") == seen["mail", "rate"] + 5
    assert value(found, name, queue_name="exports", reason="running") == seen["exports", "running"]
    assert database.metrics.list_counted() == set()
    others = [labels for sample, labels in found if sample == name]
    assert len(others) <= 5


def test_parked_jobs_are_counted_by_the_kind_of_their_pause(database):
    assert value(metrics_of(database), "pgjobs_paused_jobs", kind="tag") == 0
    Queues(database)["mail"].fair("tenant")
    Flows(database).pause(tag="vip")
    Flows(database).pause(key="7", queue="mail")
    put_laned(database, "pause/tag/vip", "a", "b", queue="celery")
    put_laned(database, "pause/key/mail=7\npause/tag/vip\nshare=7", "c", queue="mail")
    put_laned(database, "share=7", "d", queue="mail")
    found = metrics_of(database)
    for kind, jobs in (("task", 0), ("tag", 3), ("key", 1)):
        assert value(found, "pgjobs_paused_jobs", kind=kind) == jobs


def metrics_of(database: Database) -> Samples:
    """A scrape of now."""
    return samples(exposition(read_metrics(database, 100))[0].decode())


def test_jobs_that_wait_their_signals_and_steps_are_shown(database, connection):
    put(database, "a", "b", "c", "d")
    put(database, "e", queue="mail")
    connection.execute(
        "INSERT INTO pgjobs.waits (job, step, name)"
        " SELECT id, 'step', CASE WHEN task_id = 'a' THEN NULL ELSE 'go' END FROM pgjobs.jobs"
        " WHERE task_id <> 'd'"
    )
    database.steps.send_signals(
        [Signal("a", None, "stop", None, None)] * 2, "me", Action("signal_job", "me", "program", "")
    )
    connection.execute(
        "INSERT INTO pgjobs.steps (job, name, attempt) SELECT id, 'charge', 1 FROM pgjobs.jobs"
    )

    def look() -> Reading:
        return read_metrics(database, 100)

    before = look().values
    assert before["pgjobs_jobs_waiting"] == {
        ("tasks.add", OTHER, "sleep"): 1, ("tasks.add", OTHER, "signal"): 3,
    }  # fmt: skip
    assert before["pgjobs_signals_kept"] == {(): 2}
    # The server's statistics follow within a second.
    wait_for(lambda: look().values["pgjobs_steps_done"][()] >= 5)
    wait_for(lambda: look().values["pgjobs_signals_sent"][()] >= 2)
    add_waits(reading := Reading(), [Waiting("add", "mail", True, 3)], {"mail"})
    assert reading.values["pgjobs_jobs_waiting"] == {("add", "mail", "signal"): 3}
