"""Pages that stay where they are, counts that say how exact they are, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.control import listing, looking
from pgjobs_celery.control.counting import Count, count_states, total
from pgjobs_celery.control.filters import FILTERS, Filters
from pgjobs_celery.control.jobs import jobs
from pgjobs_celery.control.listing import find, list_page, suggest
from pgjobs_celery.control.looking import Place, read_place
from pgjobs_celery.control.search import parse
from pgjobs_celery.db.connection import prepared
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.sql import statement
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.job.states import State
from tests.conftest import Connection
from tests.db.test_odd_rows import ODD
from tests.db.test_plans import FILL, _walk
from tests.support.rows import put


def ids(page: listing.JobPage) -> list[str]:
    return [job.task_id for job in page.jobs]


def search(text: str) -> Filters:
    return parse(text).filters


def test_a_page_stays_where_it_is_while_jobs_are_published_and_deleted(database):
    put(database, *(f"t{n}" for n in range(10)))
    first = list_page(database, Filters(), limit=4)
    assert ids(first) == ["t9", "t8", "t7", "t6"]
    assert first.newer is None
    put(database, "new")
    jobs(database).filter(id=["t7", "t4"]).delete()
    second = list_page(database, Filters(), before=first.older, limit=4)
    assert ids(second) == ["t5", "t3", "t2", "t1"]
    last = list_page(database, Filters(), before=second.older, limit=4)
    assert (ids(last), last.older) == (["t0"], None)
    back = list_page(database, Filters(), after=last.newer, limit=4)
    assert ids(back) == ids(second)
    # In front of it are four: new, t9, t8 and t6.
    front = list_page(database, Filters(), after=back.newer, limit=4)
    assert (ids(front), front.newer) == (["new", "t9", "t8", "t6"], None)
    assert front.older is not None


def test_jobs_of_one_moment_are_each_on_one_page(database, connection):
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body)"
        " SELECT 't' || n, 't', 'q', '{}', '' FROM generate_series(1, 95) AS n"
    )
    seen: list[str] = []
    page = list_page(database, search("queue:q"))
    while True:
        seen += ids(page)
        if page.older is None:
            break
        page = list_page(database, search("queue:q"), before=page.older)
    assert seen == [f"t{n}" for n in range(95, 0, -1)]


@pytest.fixture
def long_table(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 finished jobs, of which one in a thousand has failed; few is less than 10 of them."""
    monkeypatch.setattr(looking, "DEPTH", 10)
    monkeypatch.setattr(looking, "DEPTH_OF_MESSAGES", 10)
    monkeypatch.setattr(looking, "FIRST_STEP", 100)
    monkeypatch.setattr(looking, "LEAST", 0)
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, body, state, finished_at)"
        " SELECT 't' || n, 't' || n % 2, 'q', '{}',"
        " convert_to('[[], {\"n\": ' || n || '}, {}]', 'UTF8'),"
        " CASE WHEN n % 1000 = 0 THEN 'discarded' ELSE 'completed' END,"
        " now() - (3000 - n) * interval '1 second'"
        " FROM generate_series(1, 3000) AS n"
    )


@pytest.mark.usefixtures("long_table")
def test_a_rare_job_is_found_however_far_back_if_there_is_time(database):
    page = list_page(database, search("state:discarded"), seconds=60)
    assert (ids(page), page.older, page.looked) == (["t3000", "t2000", "t1000"], None, None)
    assert ids(list_page(database, search("kwargs.n:1500"), seconds=60)) == ["t1500"]


@pytest.mark.usefixtures("long_table")
def test_where_the_time_is_over_the_page_says_how_far_it_looked_and_goes_on_from_there(database):
    page = list_page(database, search("state:discarded"), seconds=0)
    assert (ids(page), page.looked) == (["t3000"], 100)
    seen, steps = ids(page), 1
    while page.older is not None:
        page = list_page(database, search("state:discarded"), before=page.older, seconds=0)
        seen, steps = seen + ids(page), steps + 1
    assert seen == ["t3000", "t2000", "t1000"]
    assert 30 <= steps <= 31
    up = list_page(database, search("state:discarded"), after=page.newer, seconds=0)
    assert up.looked == 100
    assert up.newer is not None
    # No more than the window, however much time there is.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looking, "WINDOW", 1200)
        page = list_page(database, search("task:none"), seconds=60)
    assert (ids(page), page.looked) == ([], 1200)


@pytest.mark.usefixtures("long_table")
def test_what_an_index_leads_to_is_found_behind_any_number_of_others(database, connection):
    connection.execute(
        "INSERT INTO pgjobs.jobs (id, task_id, task, queue, message, body, state, due_at)"
        " VALUES (-5, 'old', 't', 'q', '{}', '', 'scheduled', now() + interval '1 day'),"
        " (-6, 'older', 't', 'late', '{}', '', 'available', NULL)"
    )
    for text, found in (
        ("state:scheduled", ["old"]),
        ("state:scheduled,available", ["old", "older"]),
        ("queue:late state:available", ["older"]),
        ("id:old", ["old"]),
        ("finished_before:1d", []),
    ):
        page = list_page(database, search(text), seconds=0)
        assert (ids(page), page.looked, page.older) == (found, None, None), text


def test_counts_say_how_exact_they_are(database, connection, monkeypatch):
    put(database, "a", "b")
    put(database, "c", eta=60)
    counts = count_states(database, Filters())
    assert counts[State.AVAILABLE] == Count(2)
    assert total(counts) == Count(3)
    assert counts[State.DISCARDED] == Count(0)
    monkeypatch.setattr(looking, "DEPTH", 2)
    # Of the states of which there are many, as many as were seen; the others exactly.
    counts = count_states(database, search("queue:celery state:discarded"))
    assert counts[State.AVAILABLE] == Count(2)
    assert counts[State.SCHEDULED] == Count(1)
    monkeypatch.setattr(looking, "WINDOW", 2)
    assert count_states(database, search("task:tasks.add"))[State.AVAILABLE] == Count(1, "least")
    assert count_states(database, search("id:a"))[State.AVAILABLE] == Count(1)
    assert total(count_states(database, Filters().narrow(id=[]))) == Count(0)


@pytest.mark.usefixtures("long_table")
def test_all_jobs_are_counted_by_the_statistics(database, connection):
    connection.execute("ANALYZE pgjobs.jobs")
    counts = count_states(database, Filters())
    assert counts[State.COMPLETED].kind == "about"
    assert 2900 < counts[State.COMPLETED].number <= 3000
    assert total(counts).kind == "about"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (Count(0), "0"),
        (Count(12_345), "12,345"),
        (Count(10_000, "least"), "10,000+"),
        (Count(1_234_567, "about"), "about 1.2 M"),
        (Count(123_456_789, "about"), "about 123 M"),
        (Count(123_456, "about"), "about 120,000"),
        (Count(999_499, "about"), "about 1,000,000"),
        (Count(7, "about"), "about 7"),
        (Count(1).plus(Count(2, "least")), "3+"),
        (Count(1, "about").plus(Count(2, "least")), "about 3"),
    ],
)
def test_a_count_as_it_is_read(count, text):
    assert str(count) == text


def test_ids_are_found_by_their_beginnings(database, monkeypatch):
    put(database, "6c8b-1", "6c8b-2", "6C8B", "6c9", "é6c8b", "6c8b\u202e", "order:7", "zz")
    assert find(database, parse("6c8b")).filters.given["id"] == {"6c8b-1", "6c8b-2", "6c8b\u202e"}
    assert find(database, parse('"order:" zz')).filters.given["id"] == {"order:7", "zz"}
    assert find(database, parse("6c9 id:zz")).filters.is_impossible
    assert ids(list_page(database, find(database, parse("nothing")).filters)) == []
    assert ids(list_page(database, find(database, parse("%")).filters)) == []
    monkeypatch.setattr(listing, "MOST_IDS", 1)
    found = find(database, parse("6c8b"))
    assert (len(found.filters.given["id"]), found.is_cut) == (1, True)


def test_suggestions_come_from_the_newest_rows(database):
    for n in range(3):
        put(database, f"t{n}", task="mail.send", queue="mail", tags=("vip",),
            body=b'[[], {"user_id": %d, "to": {"a b": "x y"}}, {}]' % (n % 2))  # fmt: skip
    put(database, "other", body=b"\xff")
    found = suggest(database)
    assert found.tasks == ["mail.send", "tasks.add"]
    assert found.queues == ["mail", "celery"]
    assert set(found.paths) == {"kwargs.user_id", 'kwargs.to."a b"'}
    assert list_page(database, search("kwargs.user_id:1")).jobs


@pytest.mark.parametrize(
    "text",
    ["", "x", "7~", "7~soon", "7~2026-01-01T00:00:00", f"{2**63}", "-1e9", "9" * 5000, "7.0"],
)
def test_what_is_no_place_is_refused(text):
    with pytest.raises(InvalidOption):
        read_place(text)


def test_a_place_is_written_and_read_and_belongs_to_its_order(database):
    for place in (Place(7), Place(-7), Place(7, datetime.now(timezone.utc))):
        assert read_place(str(place)) == place
    for limit in (0, 501, True):
        with pytest.raises(InvalidOption):
            list_page(database, Filters(), limit=limit)
    with pytest.raises(InvalidOption, match="other jobs"):
        list_page(database, search("state:completed"), before=Place(7))
    with pytest.raises(InvalidOption, match="other jobs"):
        list_page(database, Filters(), after=Place(7, datetime.now(timezone.utc)))


def test_what_has_finished_is_listed_by_its_end_and_stays_where_it_is(database, connection):
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, state, finished_at)"
        # Ten at a time end at one moment, and those published first end last.
        " SELECT 't' || n, 't', 'q', '{}', 'discarded', now() - (n / 10) * interval '1 minute'"
        " FROM generate_series(0, 94) AS n"
    )
    wanted = [
        f"t{n}" for start in range(0, 100, 10) for n in range(min(94, start + 9), start - 1, -1)
    ]
    for text in ("state:discarded", "finished_after:1d"):
        page, seen = list_page(database, search(text), limit=7), []
        while True:
            seen += ids(page)
            if page.older is None:
                break
            jobs(database).filter(id=seen[:3]).retry()
            page = list_page(database, search(text), limit=7, before=page.older)
        assert seen == wanted
        back = list_page(database, search(text), limit=7, after=page.newer)
        assert ids(back) == wanted[84:91]
        connection.execute(
            "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now()"
            " WHERE finished_at IS NULL"
        )
        connection.execute(
            "UPDATE pgjobs.jobs SET finished_at = (SELECT max(finished_at) FROM pgjobs.jobs)"
            " - (substr(task_id, 2)::int / 10) * interval '1 minute'"
        )


def test_what_has_finished_is_found_behind_what_waits(database, connection, monkeypatch):
    monkeypatch.setattr(looking, "DEPTH", 5)
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message, state, finished_at)"
        " SELECT 'old' || n, 't', 'q', '{}', 'discarded', now() FROM generate_series(1, 9) AS n"
    )
    connection.execute(
        "INSERT INTO pgjobs.jobs (task_id, task, queue, message)"
        " SELECT 'new' || n, 't', 'q', '{}' FROM generate_series(1, 3000) AS n"
    )
    page = list_page(database, search("state:discarded"), seconds=0)
    assert len(page.jobs) == 9
    assert count_states(database, search("task:t"), seconds=0)[State.DISCARDED] == Count(9)


def test_what_runs_is_found_among_many_that_may(database, connection, monkeypatch):
    monkeypatch.setattr(looking, "DEPTH", 5)
    put(database, *(f"t{n}" for n in range(30)))
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', claimed_by = gen_random_uuid(), attempt = 1,"
        " attempted_at = now() WHERE task_id IN ('t0', 't1')"
    )
    assert ids(list_page(database, search("state:executing"), seconds=0)) == ["t1", "t0"]
    assert ids(list_page(database, search("state:executing queue:no"), seconds=0)) == []


def test_odd_rows_are_listed_too(database, connection):
    for name, columns in ODD.items():
        put(database, name)
        connection.execute(f"UPDATE pgjobs.jobs SET {columns} WHERE task_id = '{name}'")
    page = list_page(database, Filters())
    assert len(page.jobs) == len(ODD)
    assert all(isinstance(tag, str) for job in page.jobs for tag in job.tags)
    suggest(database)
    count_states(database, Filters())


# Plans


@pytest.fixture(scope="module")
def filled(make_migrated: Callable[[], str]) -> Iterator[Database]:
    conninfo = parse_url(make_migrated())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE pgjobs.jobs")
    database = Database(conninfo, Options())
    yield database
    database.close()


def scans(database: Database, name: str, **values: Any) -> set[str]:
    """The indexes of ``jobs`` that a statement reads; empty for the whole table."""
    query = prepared(name, "pgjobs")
    literals = [psycopg.sql.Literal(values[param]).as_string() for param in query.params]
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(statement("plan_lists", "pgjobs").encode())
        connection.execute(b"PREPARE it AS " + query.sql)
        execute = f"EXECUTE it({', '.join(literals)})" if literals else "EXECUTE it"
        (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {execute}".encode()).fetchone() or ()
    return {
        node.get("Index Name", "")
        for node in _walk(plan[0]["Plan"])
        if node.get("Relation Name") == "jobs" and "Bitmap Heap" not in node["Node Type"]
    } | {
        node["Index Name"]
        for node in _walk(plan[0]["Plan"])
        if node["Node Type"] == "Bitmap Index Scan"
    }


TEXTS = {
    "id": "id:t5",
    "state": "state:discarded",
    "kwargs": "kwargs.user_id:7",
    "tags": "tags:vip",
    "worker": "worker:w",
    "queue": "queue:celery state:available",
    "older_than": "older_than:1h",
    "finished_after": "finished_after:1h",
    "root": "root:r",
    "error": "error:ValueError",
    "fingerprint": "fingerprint:ValueError-0123456789",
}


@pytest.mark.parametrize("text", TEXTS.values())
def test_no_list_reads_the_whole_table(filled, text):
    filters = search(text).parameters()
    page = {"page": 41, "is_newest": True, "newest": True, "limit": 41}
    span = {"after": 190_000, "until": 200_000}
    assert "" not in scans(filled, "find_page", **{**filters, **page, **span})
    now = datetime.now(timezone.utc)
    ends = {"ended_from": now - timedelta(seconds=1), "ended_to": now, "at": now, "row": 7}
    every = {"after": None, "until": None, "newest": None, "limit": None}
    used = scans(filled, "find_ends", **{**filters, **page, **every, **ends})
    assert "" not in used
    for bounds in (span, ends):
        assert "" not in scans(filled, "count_matched", **{**filters, **every, **bounds})
    ways = {"depth": 10_000, "is_ready": True, "is_due": True, "is_ended": True}
    ways["is_failed"] = bool(filters["error"] or filters["fingerprint"])
    used = scans(filled, "measure_ways", **{**filters, **ways})
    assert used - {"jobs_root", "jobs_fingerprint"} == {"jobs_ready", "jobs_due", "jobs_finished"}


def test_cursors_and_words_go_along_the_keys(filled):
    for newest in (True, False):
        used = scans(filled, "span_jobs", start=100_000, limit=10_000, newest=newest)
        assert used == {"jobs_pkey"}
        now = datetime.now(timezone.utc)
        span = {"start": now, "limit": 10_000, "newest": newest}
        for is_behind in (True, False):
            assert scans(filled, "span_ends", **span, is_behind=is_behind) == {"jobs_finished"}
    assert scans(filled, "show_jobs", ids=[1, 2]) == {"jobs_pkey"}
    used = scans(filled, "find_beginnings", beginning="t1", depth=1000, limit=100)
    assert used == {"jobs_task_id_key"}
    assert scans(filled, "list_words", depth=500) == {"jobs_pkey"}
    assert scans(filled, "estimate_states") == set()


def test_every_filter_is_tried_on_a_full_table(filled):
    for name in FILTERS:
        value: Any = {
            "state": "discarded",
            "tags": "x",
            "args": [1],
            "attempt": 3,
            "lane": "share",
        }.get(name, "x")
        value = {"x": 1} if name in ("kwargs", "meta", "stamps") else value
        value = 60.0 if name.endswith(("than", "before", "after")) else value
        list_page(filled, Filters().narrow(**{name: value}), seconds=0)
