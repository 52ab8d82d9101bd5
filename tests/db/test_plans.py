"""The plans of the hot statements are the ones that were chosen, whatever is in the table.

As they run in a worker: generic plans, pinned within the transaction; on an empty table, on a large
one, and with statistics that still speak of an empty one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pgjobs_celery.config import Options
from pgjobs_celery.control.explain import explain
from pgjobs_celery.db import notify
from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.sql import QUERIES
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.job.rows import Bucket
from tests.support.rows import alive, new_job

A = UUID(int=1)

#: 200,000 rows: half are finished, a third has to wait, 10,000 run, some are ready.
FILL = """
INSERT INTO pgjobs.jobs
  (task_id, task, queue, message, body, priority, state, finished_at, due_at, claimed_by, attempt)
SELECT 't' || n, 'task', CASE WHEN n % 10 = 0 THEN 'other' ELSE 'celery' END, 'm', 'b', n % 3,
       state, CASE WHEN state = 'completed' THEN now() END,
       CASE WHEN state = 'scheduled' THEN now() + n * interval '1 second' END,
       CASE WHEN state = 'executing' THEN '00000000-0000-0000-0000-000000000009'::uuid END,
       CASE WHEN state IN ('completed', 'executing') THEN 1 ELSE 0 END
FROM (
  SELECT n, CASE WHEN n % 20 < 10 THEN 'completed' WHEN n % 20 < 17 THEN 'scheduled'
                 WHEN n % 20 = 17 THEN 'executing' ELSE 'available' END AS state
  FROM generate_series(1, 200000) AS n
) AS made
"""

#: What is in the table, and what the statistics say.
TABLES = ["empty", "small", "full", "stale"]


@pytest.fixture(scope="module")
def stale(make_migrated: Callable[[], str]) -> str:
    """A database with many rows, to be copied: to write them takes several times as long."""
    url = make_migrated()
    with psycopg.connect(parse_url(url), autocommit=True) as connection:
        put_one(connection)
        connection.execute(FILL)
    return url


def put_one(connection: psycopg.Connection[Any]) -> None:
    """Have the statistics speak of one row, and stay so."""
    connection.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
    connection.execute("INSERT INTO pgjobs.jobs (task_id, task, queue) VALUES ('', '', '')")
    connection.execute("VACUUM ANALYZE pgjobs.jobs")


@pytest.fixture(scope="module", params=TABLES)
def filled(
    request: pytest.FixtureRequest,
    make_migrated: Callable[[], str],
    make_database: Callable[[str], str],
) -> Iterator[Database]:
    if request.param in ("full", "stale"):
        template = urlsplit(request.getfixturevalue("stale")).path.strip("/")
        conninfo = parse_url(make_database(template))
    else:
        conninfo = parse_url(make_migrated())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
        if request.param == "small":
            put_one(connection)
        if request.param == "full":
            connection.execute("VACUUM ANALYZE pgjobs.jobs")
    database = Database(conninfo, Options())
    alive(database, A)
    yield database
    database.close()


class Plan:
    """What EXPLAIN says of a statement, with the settings that a worker sets."""

    def __init__(self, database: Database, statement: str, **values: Any) -> None:
        query = prepared(statement, "pgjobs")
        literals = [sql.Literal(values[param]).as_string() for param in query.params]
        with psycopg.connect(database.conninfo) as connection:
            connection.execute(prepared("pin_plans", "pgjobs").sql)
            connection.execute(b"PREPARE it AS " + query.sql)
            execute = f"EXECUTE it({', '.join(literals)})" if literals else "EXECUTE it"
            found = connection.execute(f"EXPLAIN (FORMAT JSON) {execute}".encode()).fetchone()
            connection.rollback()
        self.text = json.dumps(found[0], indent=1)
        self.nodes = list(_walk(found[0][0]["Plan"]))

    def scans(self) -> set[tuple[str, str]]:
        """How each table is read: the node's type and the index, of ``jobs`` alone."""
        return {
            (node["Node Type"], node.get("Index Name", ""))
            for node in self.nodes
            if node.get("Relation Name") == "jobs" and "Scan" in node["Node Type"]
        }

    def has(self, kind: str) -> bool:
        return any(node["Node Type"] == kind for node in self.nodes)

    def __repr__(self) -> str:
        return self.text


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


CLAIM = {
    "node": str(A), "name": "n", "queues": ["celery", "other"], "lowest": [0, 0],
    "highest": [255, 255], "floors": [0, 0], "limit": 10, "late": ["t"],
    "places": [None, None], "locked": [], "is_alone": True,
}  # fmt: skip


def test_a_claim_walks_the_ready_index_in_its_order(filled):
    plan = Plan(filled, "claim_jobs", **CLAIM)
    assert plan.scans() == {("Index Scan", "jobs_ready"), ("Tid Scan", "")}, plan
    assert not plan.has("Sort"), plan
    assert not plan.has("Incremental Sort"), plan


def test_a_claim_from_limited_queues_reads_no_more(filled):
    """Whatever is in the small tables, too, when the plan is made."""
    plan = Plan(filled, "claim_jobs", **CLAIM | {"places": [5, None], "locked": ["celery"]})
    assert plan.scans() == {("Index Scan", "jobs_ready"), ("Tid Scan", "")}, plan
    assert not plan.has("Sort"), plan
    plan = Plan(filled, "free_slots", locked=["celery"])
    assert plan.scans() == {("Index Scan", "jobs_pkey")}, plan
    assert not plan.has("Seq Scan"), plan
    plan = Plan(filled, "lock_limits", locked=["celery"])
    assert not plan.has("Seq Scan"), plan


def test_a_claim_starts_at_its_floor(filled):
    """The floor is a condition of the index, not a filter on what it gives."""
    plan = Plan(filled, "claim_jobs", **CLAIM)
    (scan,) = (node for node in plan.nodes if node.get("Index Name") == "jobs_ready")
    for word in ("queue", "priority", "seq"):
        assert word in scan["Index Cond"], plan


def test_staging_and_its_timer_walk_the_due_index(filled):
    plan = Plan(filled, "stage_jobs", limit=1000)
    assert ("Index Scan", "jobs_due") in plan.scans(), plan
    assert plan.scans() <= {("Index Scan", "jobs_due"), ("Tid Scan", "")}, plan
    plan = Plan(filled, "next_due")
    assert plan.scans() <= {("Index Scan", "jobs_due"), ("Index Only Scan", "jobs_due")}, plan
    assert not plan.has("Sort"), plan


def test_pruning_walks_the_index_of_what_has_finished(filled):
    plan = Plan(
        filled, "prune_jobs", state="completed", max_age=60.0, until=None, since=None, limit=1000
    )
    assert ("Index Scan", "jobs_finished") in plan.scans(), plan
    assert not plan.has("Sort"), plan


def test_counting_ends_walks_the_index_of_what_has_finished(filled):
    now = "2000-01-01"
    plan = Plan(filled, "fold_ends", since=now, until=now, bounds=[1.0])
    assert plan.scans() == {("Index Scan", "jobs_finished")}, plan


def test_looking_for_news_reads_an_entry_of_each_index(filled):
    plan = Plan(filled, "find_news", idle=60.0)
    assert {index for _, index in plan.scans()} <= {"jobs_finished", "jobs_ready"}, plan
    assert not [each for each in plan.scans() if each[0] == "Seq Scan"], plan


def test_counting_lines_leaps_along_the_ready_index(filled):
    plan = Plan(filled, "count_lines", depth=1000, most=100)
    assert {index for _, index in plan.scans()} <= {"jobs_ready", "jobs_due"}, plan
    assert {kind for kind, _ in plan.scans()} <= {"Index Scan", "Index Only Scan"}, plan


@pytest.mark.parametrize(
    "name",
    ["list_totals", "list_lines", "list_workers", "list_lateness", "look_at_server", "lock_fold"],
)
def test_a_scrape_reads_no_job(filled, name):
    plan = Plan(filled, name, limit=100, interval=1.0, pace=1.0)
    assert plan.scans() == set(), plan


#: What reads and keeps the history, with values.
HISTORY = {
    "read_history": {"kind": "task", "name": "t", "width": 600, "buckets": 144},
    "sum_history": {"kind": "task", "width": 600, "buckets": 144, "big": 3600, "limit": 100},
    "trace_history": {
        "kind": "task", "width": 600, "buckets": 144, "big": 600, "step": 600, "failures": 0,
    },
    "look_at_history": {"width": 600},
    "list_history_names": {},
    "forget_recent_history": {"since": "2000-01-01"},
    "prune_history": {"width": 60, "max_age": 60.0},
    "roll_history": {"width": 600, "parts": 60, "since": "2000-01-01", "until": "2000-01-02"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "values"), HISTORY.items(), ids=HISTORY)
def test_the_history_is_read_by_its_key_and_not_from_jobs(filled, name, values):
    plan = Plan(filled, name, **values)
    scans = [node for node in plan.nodes if node.get("Relation Name") == "history"]
    assert scans, plan
    assert {node["Index Name"] for node in scans if "Scan" in node["Node Type"]} == {
        "history_pkey"
    }, plan
    assert plan.scans() == set(), plan
    for node in scans:
        if "Scan" in node["Node Type"]:
            assert "kind" in node["Index Cond"], plan


def test_tallying_finds_its_rows_by_their_ids(filled):
    plan = Plan(filled, "tally_retries", ids=[1, 2])
    assert plan.scans() == {("Index Scan", "jobs_pkey")}, plan


OUTCOMES = {
    "node": str(A), "ids": [1, 2], "attempts": [1, 1], "waiters": ["w"] * 2, "channel": "c",
    "kind": "r", "space": 1,
}  # fmt: skip

SETTLE = {
    "settle_completed": {
        **OUTCOMES, "results": [b""] * 2, "result_types": ["x"] * 2, "children": ["[]"] * 2,
    },
    "settle_others": {
        **OUTCOMES, "states": ["discarded"] * 2, "counts": [True] * 2, "leaves": [False] * 2,
        "delays": [None] * 2, "errors": ["{}"] * 2, "losses": [True, False], "work_channel": "w",
        "back": "b", "due": "d",
    },
}  # fmt: skip

RESULT = {
    "task_id": "t7", "result": b"", "result_type": "x", "traceback": "", "children": "[]",
    "error": "{}", "node": str(A), "attempt": 1, "channel": "c", "kind": "r", "space": 1,
    "waiter": "w",
}  # fmt: skip


@pytest.mark.parametrize("name", SETTLE)
def test_settling_finds_its_rows_by_their_ids(filled, name):
    plan = Plan(filled, name, **SETTLE[name])
    assert plan.scans() == {("Index Scan", "jobs_pkey")}, plan


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("finish_job", {"state": "completed"}),
        ("report_job", {"reported_state": "PROGRESS"}),
        ("record_retry", {}),
        ("forget_result", {}),
    ],
)  # fmt: skip
def test_results_find_their_row_by_the_task_id(filled, name, more):
    plan = Plan(filled, name, **{**RESULT, **more})
    scans = {index for _, index in plan.scans()}
    assert scans <= {"jobs_task_id_key", ""}, plan
    assert not plan.has("Seq Scan"), plan


@pytest.mark.parametrize("name", ["get_results", "finished_ids"])
def test_reading_results_uses_the_task_id(filled, name):
    values = {"task_ids": ["t1", "t2"], "extended": False}
    plan = Plan(filled, name, **values)
    assert {index for _, index in plan.scans()} <= {"jobs_task_id_key", ""}, plan
    assert not plan.has("Seq Scan"), plan


def test_an_insert_decides_by_the_task_id(filled):
    job = new_job("t1", tags=[])._asdict() | {
        "holder": str(A),
        "holder_attempt": 1,
        "is_repeated": False,
        "parent": None,
        "parent_attempt": None,
        "is_holder_only": True,
        "since": None,
        "channel": None,
    }
    plan = Plan(filled, "insert_job", **job)
    assert plan.nodes[0]["Conflict Arbiter Indexes"] == ["jobs_task_id_key"], plan
    assert {index for _, index in plan.scans()} <= {"jobs_task_id_key"}, plan


def test_putting_back_what_is_unknown_reads_what_is_in_line_and_no_more(filled):
    plan = Plan(filled, "release_unknown_jobs", node=str(A), queues=["celery"], known=[1])
    assert plan.scans() == {("Index Scan", "jobs_ready")}, plan


#: What explains a job, with values, and the indexes of jobs by which it finds its rows.
EXPLAIN = [
    ("explain_job", {"task_id": "t7"}, {"jobs_task_id_key"}),
    ("explain_lock", {"task_id": "t7"}, {"jobs_task_id_key"}),
    ("explain_line", {"queue": "celery", "priority": 1, "seq": 7, "depth": 20_000}, {"jobs_ready"}),
    ("explain_running", {"queue": "celery", "depth": 20_000, "limit": 10}, {"jobs_ready"}),
    ("explain_held", {"queues": ["celery", "other"], "depth": 1000}, {"jobs_ready"}),
    ("list_held", {"queues": ["celery", "other"], "depth": 1000, "limit": 5000}, {"jobs_ready"}),
    ("survey_lines", {"queues": ["celery", "other"], "depth": 1000}, {"jobs_ready"}),
    ("find_lines", {"limit": 100}, {"jobs_ready"}),
    ("count_ends", {"seconds": 10.0, "depth": 1000}, {"jobs_finished"}),
    ("count_beginnings", {"seconds": 10.0, "depth": 1000}, {"jobs_pkey"}),
    ("list_failures", {"depth": 1000, "limit": 10}, {"jobs_finished"}),
    ("explain_last_run", {"queue": "celery", "depth": 1000}, {"jobs_finished"}),
    ("explain_chord", {"id": b"t7", "limit": 1000, "depth": 20_000}, {"jobs_group"}),
    ("explain_members", {"group_id": "g", "limit": 10, "depth": 20_000}, {"jobs_group"}),
    ("view_jobs", {"ids": ["t7"], "most": 1000}, {"jobs_task_id_key"}),
    ("list_links", {"ids": ["t7"], "most": 1000}, {"jobs_task_id_key"}),
    ("list_runs", {"task": "task", "depth": 1000, "limit": 60}, {"jobs_finished"}),
]  # fmt: skip


FENCE = {"attempt": 1, "node": str(A)}
STEP = {"job": 7, **FENCE, "name": "x", "kind": "step", "value": b"", "value_type": "x"}
SENT = {
    "task_ids": ["t7", None], "keys": [None, "k"], "names": ["x"] * 2, "payloads": [b""] * 2,
    "types": ["x"] * 2, "is_first": True, "sent_by": "me",
}  # fmt: skip
CUT = {"ids": [7], "attempts": [1], "node": str(A), "bound": 20}
WAIT = {"step": "x", "name": "x", "key": "k", "delay": 1.0, "until": None}

#: The statements of steps, waits and signals, and the indexes by which they find their rows.
STEPS = [
    ("read_steps", {"task_id": "t7", **FENCE}, {"jobs_task_id_key", "steps_pkey"}),
    ("record_step", STEP, {"jobs_pkey"}),
    ("record_joined_step", STEP, {"jobs_pkey"}),
    (
        "pass_wait",
        {"job": 7, **FENCE, **WAIT},
        {"jobs_pkey", "signals_pkey", "signals_task_id", "signals_key", "waits_pkey"},
    ),
    ("send_signals", SENT, {"signals_task_id", "signals_key"}),
    ("forgive_interrupted", CUT, {"jobs_pkey", "steps_pkey", "waits_pkey"}),
    ("list_steps", {"task_id": "t7", "limit": 9, "largest": 9}, {"jobs_task_id_key", "steps_pkey"}),
    ("find_wait", {"task_id": "t7"}, {"jobs_task_id_key", "waits_pkey"}),
    (
        "explain_steps",
        {"task_id": "t7", "limit": 9},
        {"jobs_task_id_key", "waits_pkey", "steps_pkey", "signals_task_id", "signals_key"},
    ),
    (
        "wake_waiting",
        {"limit": 1000},
        {"signals_new", "waits_new", "jobs_task_id_key", "waits_pkey", "waits_key", "jobs_pkey"}
        | {"signals_task_id", "signals_key"},
    ),
]


@pytest.mark.parametrize(("name", "values", "indexes"), STEPS, ids=[each[0] for each in STEPS])
def test_steps_and_signals_are_found_by_their_indexes(filled, name, values, indexes):
    plan = Plan(filled, name, **values)
    used = {node["Index Name"] for node in plan.nodes if "Index Name" in node}
    assert used == indexes, plan
    assert not plan.has("Seq Scan"), plan


@pytest.mark.parametrize(("name", "values", "indexes"), EXPLAIN, ids=[each[0] for each in EXPLAIN])
def test_explaining_a_job_reads_by_an_index_and_no_further_than_it_says(
    filled, name, values, indexes
):
    plan = Plan(filled, name, **values)
    assert {index for _, index in plan.scans()} == indexes, plan
    if "depth" in values:  # the bound stands right above the walk, with nothing that needs all rows
        (above,) = (
            node
            for node in plan.nodes
            if any(each.get("Relation Name") == "jobs" for each in node.get("Plans", ()))
        )
        assert above["Node Type"] == "Limit", plan


def test_a_canvas_is_found_by_three_indexes(filled):
    plan = Plan(filled, "find_canvas", ids=["t7"], roots=["t7"], groups=["g"], limit=5000)
    known = {"jobs_task_id_key", "jobs_root", "jobs_group"}
    assert {index for _, index in plan.scans()} == known, plan


def test_jobs_like_one_are_looked_for_among_the_newest_ends(filled):
    plan = Plan(filled, "list_alike", task_id="t7", depth=1000, limit=20, most=1000)
    assert {index for _, index in plan.scans()} == {
        "jobs_finished", "jobs_fingerprint", "jobs_task_id_key",
    }, plan  # fmt: skip


def test_a_job_at_the_end_of_a_long_line_is_explained_quickly(filled):
    """Nor does the server compile the statements, which took a second each up to PostgreSQL 17.

    It takes less than half as long as counting to a million, here and on a busy machine.
    """
    filled.nodes.beat_node(A, "n", ["celery", "other"], 3600.0)
    found = explain(filled, "t199979")
    assert found is None or found.details["ahead_is_more"] is True
    with psycopg.connect(filled.conninfo) as connection:
        connection.execute("SET LOCAL jit = off")
        series = "SELECT count(*) FROM generate_series(1, 1000000)"
        measure = fastest(lambda: connection.execute(series), times=3)
    taken = fastest(lambda: explain(filled, "t199979"), times=3)
    print(f"explained in {taken:.1f} ms, counted to a million in {measure:.1f} ms")
    assert taken < 2 * measure


#: What the doctor asks of jobs, and the indexes of jobs by which it finds its rows.
DOCTOR = [
    ("survey_queues", {"queues": 1000, "depth": 100}, {"jobs_ready"}),
    ("list_late", {"limit": 20}, {"jobs_due"}),
    ("survey_chords",
     {"seconds": 60, "unsized": 3600, "chords": 50, "depth": 2000, "groups": 500}, {"jobs_group"}),
    ("survey_messages", {"queues": 1000, "depth": 100, "seconds": 600}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "indexes"), DOCTOR, ids=[each[0] for each in DOCTOR])
def test_the_doctor_reads_jobs_by_an_index_and_no_further_than_it_says(
    filled, name, values, indexes
):
    plan = Plan(filled, name, **values)
    assert {index for _, index in plan.scans()} == indexes, plan
    for node in plan.nodes:
        for child in node.get("Plans", ()):
            if child.get("Relation Name") == "jobs":
                assert node["Node Type"] == "Limit", plan


def test_the_doctor_reads_no_jobs_beyond_these():
    """Its other statements do not name the table, but for catalogs."""
    folder = QUERIES / "doctor"
    reading = {path.stem for path in folder.glob("*.sql") if "pgjobs.jobs" in path.read_text()}
    assert reading == {name for name, _, indexes in DOCTOR if indexes}


def fastest(work: Callable[[], object], times: int = 7) -> float:
    """In milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken) * 1000


def test_a_worker_that_began_on_an_empty_table_claims_as_fast_on_a_full_one(make_migrated):
    """The plan is cached when the statement first runs; without pins this took 90 ms a claim."""
    conninfo = parse_url(make_migrated())
    database = Database(conninfo, Options(pool_size=1))
    alive(database, A)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
        for _ in range(12):
            assert database.claims.claim_jobs(A, "n", [Bucket("celery")], 1) == ([], [])
            database.claims.next_due()
            database.claims.stage_jobs(10)
            database.results.get_results(["t1"])
            database.results.finished_ids(["t1"])
        connection.execute(FILL)
    # What runs stands in front: 3,000 entries to pass over.
    assert fastest(lambda: database.claims.claim_jobs(A, "n", [Bucket("celery")], 10)) < 10
    assert fastest(database.claims.next_due) < 10
    assert fastest(lambda: database.claims.stage_jobs(10)) < 10
    assert fastest(lambda: database.results.get_results(["t1"])) < 5
    assert fastest(lambda: database.results.finished_ids(["t1"])) < 5
    database.close()


def hot_updates(connection: psycopg.Connection, database: Database) -> tuple[int, int]:
    """How many updates of jobs there were, and how many of them touched no index."""
    database.close()  # a session reports its statistics when it ends
    connection.execute("SELECT pg_sleep(0.1), pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
        "WHERE relid = 'pgjobs.jobs'::regclass"
    ).fetchone()
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def put_many(connection: psycopg.Connection, count: int) -> None:
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body) "
        "SELECT 'm' || n, 'task', 'celery', repeat('m', 300), repeat('b', 200)::bytea "
        "FROM generate_series(1, %s) AS n",
        (count,),
    )


@pytest.mark.usefixtures("living_nodes")
def test_claims_are_hot_updates(database, connection):
    put_many(connection, 2000)
    updates, hot = hot_updates(connection, database)
    claimed = 0
    while claims := database.claims.claim_jobs(A, "n", [Bucket("celery")], 50)[0]:
        claimed += len(claims)
    assert claimed == 2000
    after, hot_after = hot_updates(connection, database)
    assert after - updates == 2000
    assert hot_after - hot >= 0.95 * 2000


@pytest.fixture
def old_snapshot(database: Database) -> Iterator[None]:
    """Somebody's report, begun before everything: no dead row can be removed until it ends."""
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM pgjobs.jobs")
        yield


@pytest.mark.usefixtures("living_nodes", "old_snapshot")
def test_a_floor_takes_a_claim_past_100000_dead_entries(database, connection):
    put_many(connection, 100_000)
    connection.execute("UPDATE pgjobs.jobs SET state = 'completed', finished_at = now()")
    floor = connection.execute("SELECT max(seq) AS seq FROM pgjobs.jobs").fetchone()["seq"]
    for number in range(40):
        database.jobs.insert_job(new_job(f"new{number}"))

    def claim(bucket: Bucket) -> None:
        ((one,), _) = database.claims.claim_jobs(A, "n", [bucket], 1)
        assert database.claims.settle_jobs(A, [completed(one)]) == []

    with_floor = fastest(lambda: claim(Bucket("celery", 0, 0, floor)))
    without = fastest(lambda: claim(Bucket("celery")), times=3)
    print(f"claim and settle behind 100,000 dead: {with_floor:.2f} ms, no floor {without:.2f} ms")
    assert with_floor < without / 4
    assert with_floor < without


def test_the_listeners_statements_touch_no_table():
    query = prepared("wake_sleepers", "pgjobs").sql
    assert b"pgjobs." not in query
    assert notify.SLEEPERS < 2**31


@pytest.mark.parametrize(
    ("setting", "value"), [("jit", "off"), ("max_parallel_workers_per_gather", "0")]
)
def test_a_pinned_statement_is_neither_compiled_nor_shared_out(
    database: Database, setting: str, value: str
):
    """A step that is switched off makes any statement dear enough for it, up to PostgreSQL 17."""
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(prepared("pin_plans", "pgjobs").sql)
        assert connection.execute(f"SHOW {setting}").fetchone() == (value,)
        connection.rollback()
        after = connection.execute(
            "SELECT setting = reset_val FROM pg_settings WHERE name = %s", [setting]
        )
        assert after.fetchone() == (True,)
