"""Failures grouped by fingerprint: of rows that name it, of rows that do not, before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest

from pgjobs_celery import jobs
from pgjobs_celery.config import Options
from pgjobs_celery.control.failures import (
    changes,
    compare,
    failed_jobs,
    failures,
    kind_of,
    shift,
    standing,
)
from pgjobs_celery.control.problems import Failures, Problem
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.job.recorded import read_entry
from tests.db.test_plans import Plan
from tests.support.failing import NOW, ODD, entry, put_failed


@pytest.fixture(scope="module")
def conninfo(make_migrated: Callable[[], str]) -> str:
    conninfo = parse_url(make_migrated())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for n in range(20):
            put_failed(connection, f"old {n}", 600 + n, entry("KeyError", f"'{n}'", "charge"))
        for n in range(12):
            put_failed(
                connection, f"new {n}", n, entry("ValueError", f"order {n}", "charge", n),
                worker=f"w{n % 2}", queue=f"q{n % 3}",
                state=("discarded", "retryable", "executing")[n % 3],
            )  # fmt: skip
        for n in range(6):
            put_failed(connection, f"both {n}", 5 + 100 * n, entry("OSError", "no answer", "send"))
        put_failed(
            connection, "unnamed", 700, json.dumps(
                {k: v for k, v in json.loads(entry("KeyError", "'9'", "charge", 50)).items()
                 if k not in ("cause", "frame")}
            ), is_named=False,
        )  # fmt: skip
        for n, errors in enumerate(ODD):
            put_failed(connection, f"odd {n}", 2000 + n, errors, is_named=False)
        connection.execute("VACUUM ANALYZE pgjobs.jobs")
    return conninfo


@pytest.fixture
def database(conninfo: str) -> Iterator[Database]:
    database = Database(conninfo, Options())
    yield database
    database.close()


def by_type(found: Failures) -> dict[str, Problem]:
    return {problem.type: problem for problem in found.problems}


def test_failures_that_are_alike_are_one_problem(database):
    found = failures(database, NOW - timedelta(minutes=800))
    assert not found.is_cut
    assert found.looked == 39
    problems = by_type(found)
    assert problems.keys() == {"KeyError", "ValueError", "OSError"}
    new = problems["ValueError"]
    assert (new.jobs, new.discarded, new.retryable) == (12, 4, 4)
    assert new.summary == "order <n>"
    assert new.message == "order 0"
    assert new.frame == "app/tasks.py:0 in charge"
    assert new.tasks == ("shop.charge",)
    assert new.queues == ("q0", "q1", "q2")
    assert new.task_id == "new 0"
    assert new.worker == "w0"
    assert new.last_seen == NOW
    assert new.first_seen == NOW - timedelta(minutes=11)
    assert sum(new.series) == 12
    assert new.series[-1] == 12
    assert [problem.type for problem in found.problems] == ["ValueError", "OSError", "KeyError"]


def test_a_row_that_does_not_name_its_problem_is_counted_with_those_that_do(database):
    """One of an older release; its fingerprint is computed when it is read."""
    problem = by_type(failures(database, NOW - timedelta(minutes=800)))["KeyError"]
    assert problem.jobs == 21
    assert problem.unnamed == ("unnamed",)
    assert problem.first_seen == NOW - timedelta(minutes=700)
    assert problem.last_seen == NOW - timedelta(minutes=600)


def test_the_first_time_is_that_of_all_and_the_span_decides_what_is_counted(database):
    found = failures(database, NOW - timedelta(minutes=50), NOW - timedelta(minutes=1))
    problems = by_type(found)
    assert problems["OSError"].jobs == 1
    assert problems["OSError"].first_seen == NOW - timedelta(minutes=505)
    assert problems["ValueError"].jobs == 11
    assert "KeyError" not in problems


def test_whatever_a_hand_has_written_is_shown(database):
    found = failures(database)
    odd = {each for problem in found.problems for each in problem.unnamed}
    assert odd >= {f"odd {n}" for n in range(len(ODD))}
    assert all(len(problem.message) <= 100_000 for problem in found.problems)
    for problem in found.problems:
        assert problem.fingerprint.rpartition("-")[2].isalnum()


def test_only_some_are_meant(database):
    since = NOW - timedelta(minutes=800)
    assert by_type(failures(database, since, errors=["OSError"])).keys() == {"OSError"}
    assert by_type(failures(database, since, queues=["q1"]))["ValueError"].jobs == 4
    assert failures(database, since, tasks=["other"]).problems == ()
    with pytest.raises(InvalidOption, match="before its end"):
        failures(database, NOW, NOW - timedelta(minutes=1))


def test_what_is_new_after_a_time_and_what_is_gone(database):
    found = compare(database, NOW - timedelta(minutes=290))
    kinds = {
        change.problem.type: (change.kind, change.before, change.after) for change in found.changes
    }
    assert kinds == {
        "ValueError": ("new", 0, 12),
        "OSError": ("same", 3, 3),
    }  # fmt: skip
    found = compare(database, NOW - timedelta(minutes=590))
    assert {c.problem.type: c.kind for c in found.changes}["KeyError"] == "gone"
    assert found.changes[0].kind == "new"
    with pytest.raises(InvalidOption, match="past"):
        compare(database, NOW + timedelta(days=1))


def test_one_problem_before_and_after_a_time(database):
    problems = by_type(failures(database))
    at = NOW - timedelta(minutes=290)
    new = shift(database, problems["ValueError"].fingerprint, at, NOW)
    assert (new.kind, new.before, new.after) == ("new", 0, 12)
    same = shift(database, problems["OSError"].fingerprint, at, NOW - timedelta(days=9))
    assert (same.kind, same.before, same.after) == ("same", 3, 3)
    with pytest.raises(InvalidOption, match="past"):
        shift(database, "x-1", NOW + timedelta(days=1), None)


@pytest.mark.parametrize(
    ("before", "after", "expected", "is_new", "kind"),
    [
        (0, 1, 0, True, "new"), (0, 1, 0, False, "same"), (0, 9, 0, False, "more"),
        (10, 12, 10, False, "same"), (10, 30, 10, False, "more"), (100, 70, 100, False, "fewer"),
        (5, 0, 5, False, "gone"), (2, 0, 2, False, "same"), (1, 0, 0.2, False, "same"),
    ],
)  # fmt: skip
def test_what_chance_explains_is_no_change(before, after, expected, is_new, kind):
    assert kind_of(before, after, expected, is_new=is_new) == kind


def test_spans_of_unlike_length_are_compared_by_their_rate(database):
    whole = failures(database, NOW - timedelta(minutes=800))
    early = Failures(whole.problems, 1, NOW - timedelta(hours=10), NOW, False)
    late = Failures(whole.problems, 1, NOW - timedelta(hours=1), NOW, False)
    assert {c.kind for c in changes(early, late, NOW + timedelta(days=9))} == {"more"}


def test_the_standing_of_one_problem(database):
    problem = by_type(failures(database))["ValueError"]
    found = standing(database, problem.fingerprint)
    assert found.jobs == 12
    assert found.failed == 8
    assert {str(state): n for state, n in found.states.items()} == {
        "discarded": 4, "retryable": 4, "executing": 4,
    }  # fmt: skip
    assert found.workers == {"w0": 6, "w1": 6}
    assert found.queues == {"q0": 4, "q1": 4, "q2": 4}
    assert found.tasks == {"shop.charge": 12}
    assert (found.first_seen, found.last_seen) == (problem.first_seen, problem.last_seen)
    assert sum(found.series) == 12
    assert standing(database, "nothing").jobs == 0


def test_the_jobs_of_a_problem_come_page_by_page(database):
    problem = by_type(failures(database))["ValueError"]
    rows = database.failures.list_problem_jobs(problem.fingerprint, 5)
    assert [row[0] for row in rows] == [f"new {n}" for n in range(5)]
    rows = database.failures.list_problem_jobs(problem.fingerprint, 50, rows[-1][-2:])
    assert [row[0] for row in rows] == [f"new {n}" for n in range(5, 12)]


def test_filters_find_them_and_never_one_that_has_succeeded(database):
    problem = by_type(failures(database))["ValueError"]
    assert jobs(database).filter(fingerprint=problem.fingerprint).count() == 12
    assert jobs(database).filter(error=ValueError).count() == 12
    assert jobs(database).filter(error=["ValueError", "OSError"]).count() == 18
    assert jobs(database).filter(error="Value").count() == 0
    assert failed_jobs(database, problem.fingerprint).count() == 8
    assert jobs(database).filter(error="OSError").first().fingerprint == (
        by_type(failures(database))["OSError"].fingerprint
    )


def test_sql_and_python_name_a_problem_alike(conninfo):
    with psycopg.connect(conninfo) as connection:
        for kind, message in (("ValueError", "x 7"), ("A-b", "y"), ("E" * 300, "ü\n'z'")):
            text = entry(kind, message, "f")
            row = connection.execute(
                "SELECT pgjobs.fingerprint('tásk', %s::jsonb)", [text]
            ).fetchone()
            assert row is not None
            assert row[0] == read_entry(json.loads(text)).fingerprint("tásk")
        row = connection.execute(
            "SELECT pgjobs.fingerprint('t', '{\"type\": \"WorkerLostError\"}')"
        ).fetchone()
        assert row is not None
        lost = {"type": "WorkerLostError", "message": "a@b was lost"}
        assert row[0] == read_entry(lost).fingerprint("t")


SPAN = {"since": str(NOW - timedelta(days=7)), "until": str(NOW)}
WORDS = {"tasks": None, "queues": None, "errors": None}


@pytest.mark.parametrize(
    ("name", "values", "scans"),
    [
        ("survey_failures", {**SPAN, **WORDS, "depth": 10_000, "limit": 500, "bars": 24},
         {("Index Scan", "jobs_failed"), ("Index Scan", "jobs_fingerprint"),
          ("Index Only Scan", "jobs_fingerprint")}),
        ("look_at_failures", {**SPAN, "depth": 10_000},
         {("Index Only Scan", "jobs_failed"), ("Index Scan", "jobs_failed")}),
        ("list_unnamed", {**SPAN, "depth": 5_000, "limit": 200}, {("Index Scan", "jobs_finished")}),
        ("survey_problem", {"fingerprint": "x-1", "depth": 10_000, "bars": 24},
         {("Index Scan", "jobs_fingerprint"), ("Index Only Scan", "jobs_fingerprint")}),
        ("count_problem", {**SPAN, "fingerprint": "x-1", "depth": 10_000},
         {("Index Only Scan", "jobs_fingerprint"), ("Index Scan", "jobs_fingerprint")}),
        ("list_problem_jobs",
         {"fingerprint": "x-1", "limit": 50, "before_at": None, "before_id": None},
         {("Index Scan", "jobs_fingerprint")}),
    ],
)  # fmt: skip
def test_each_statement_goes_by_an_index(database, name, values, scans):
    plan = Plan(database, name, **values)
    # The planner expects one row where there are 10,000: what it puts inside a loop runs as often.
    names = {node.get("Subplan Name") for node in plan.nodes}
    assert name != "survey_failures" or {"CTE span", "CTE series"} <= names, plan
    assert plan.scans()
    assert plan.scans() <= scans, plan
