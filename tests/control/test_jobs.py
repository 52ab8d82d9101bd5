"""Jobs found through an app, as people do it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from kombu import Queue

from pgjobs_celery import jobs
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.errors import InvalidOption, PgJobsError
from pgjobs_celery.job.job import Job
from pgjobs_celery.job.states import State
from tests.support.rows import put, row


@pytest.fixture
def app(make_app):
    app = make_app(timezone="Europe/Berlin")

    @app.task(name="welcome", shared=False)
    def welcome(user_id, how="mail"): ...

    return app


@pytest.fixture
def welcome(app):
    return app.tasks["welcome"]


def test_a_job_is_found_by_what_is_known_of_it(app, welcome, connection):
    mine = welcome.apply_async((7,), {"how": "sms"}, countdown=60)
    other = welcome.apply_async(kwargs={"user_id": 8}, queue="mail")
    connection.execute(
        "UPDATE pgjobs.jobs SET tags = '{mail,urgent}', meta = '{\"a\": {\"b\": 1}}', attempt = 2, "
        "group_id = 'g', parent_id = 'p', root_id = 'r', attempted_by = 'w', "
        "inserted_at = now() - interval '1 hour' WHERE task_id = %s",
        (mine.id,),
    )
    for filters in (
        {"id": mine}, {"state": "scheduled"}, {"queue": "celery"}, {"args": [7]},
        {"kwargs": {"how": "sms"}}, {"tags": " URGENT "}, {"tags": ["mail", "urgent"]},
        {"meta": {"a": {"b": 1}}}, {"attempt": 2}, {"attempt": range(1, 9)}, {"group": "g"},
        {"parent": "p"}, {"root": "r"}, {"worker": "w"}, {"older_than": 60},
        {"newer_than": timedelta(hours=2), "attempt": range(1, 2**40)},
        {"task": welcome, "state": [State.SCHEDULED, "retryable"], "id": [mine.id, "none"]},
    ):  # fmt: skip
        assert [job.task_id for job in jobs(app).filter(**filters)] == [mine.id], filters
    for filters in (
        {"task": "other"}, {"tags": ["mail", "slow"]}, {"args": [7, 8]}, {"newer_than": 0},
        {"kwargs": {"how": "sms", "user_id": 7}}, {"attempt": 3}, {"id": []}, {"finished_after": 9},
    ):  # fmt: skip
        assert not jobs(app).filter(**filters).exists(), filters
    assert jobs(app).filter(queue=[Queue("mail")]).first().kwargs == {"user_id": 8}
    assert jobs(app).filter(task=welcome).count() == 2
    assert jobs(app).get(other).queue == "mail"
    assert jobs(app).filter(queue="celery").get(other.id) is None


def test_a_job_is_shown_as_what_it_carries(app, welcome):
    result = welcome.apply_async((7,), {"how": "sms"}, priority=3)
    job = jobs(app).get(result.id)
    assert isinstance(job, Job)
    assert (job.task, job.state, job.attempt, job.priority) == ("welcome", State.AVAILABLE, 0, 3)
    assert (job.args, job.kwargs, job.tags, job.meta, job.errors) == (
        [7], {"how": "sms"}, (), {}, [],
    )  # fmt: skip
    assert job.inserted_at.tzinfo is not None
    assert welcome.apply_async((8,), compression="gzip")
    assert jobs(app).list(1)[0].args is None


def test_counts_are_by_state(app, welcome):
    welcome.delay(1)
    welcome.apply_async((2,), countdown=60)
    counts = jobs(app).count_by_state()
    assert counts == {**dict.fromkeys(State, 0), State.AVAILABLE: 1, State.SCHEDULED: 1}
    assert jobs(app).filter(id=[]).count() == 0


def test_lists_are_newest_first_and_iteration_is_oldest_first(app, welcome):
    ids = [welcome.delay(number).id for number in range(3)]
    assert [job.task_id for job in jobs(app)] == ids
    assert [job.task_id for job in jobs(app).list(2)] == ids[:0:-1]
    assert [job.task_id for job in jobs(app).list(2, newest=False)] == ids[:2]
    assert jobs(app).list(0) == []
    with pytest.raises(InvalidOption):
        jobs(app).list(-1)


def test_who_waits_for_a_job_hears_at_once_that_it_was_cancelled(app, welcome):
    result = welcome.apply_async((7,), countdown=3600)
    changed = jobs(app).filter(task=welcome, args=[7], state="scheduled").cancel("unsubscribed")
    assert changed == [result.id]
    with pytest.raises(TaskRevokedError, match="unsubscribed"):
        result.get(timeout=5)


def test_an_eta_without_a_zone_is_in_the_apps(app, welcome, connection):
    result = welcome.delay(1)
    jobs(app).reschedule(eta=datetime(2050, 1, 1, 12))
    eta = row(connection, result.id)["due_at"]
    assert eta == datetime(2050, 1, 1, 11, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "act",
    [
        lambda all_jobs: all_jobs.reschedule(),
        lambda all_jobs: all_jobs.reschedule(eta=datetime.now(), countdown=1),
        lambda all_jobs: all_jobs.reschedule(eta="tomorrow"),
        lambda all_jobs: all_jobs.reschedule(countdown=-1),
        lambda all_jobs: all_jobs.set_priority(256),
        lambda all_jobs: all_jobs.set_priority("high"),
        lambda all_jobs: all_jobs.move(""),
        lambda all_jobs: all_jobs.move("a\x00"),
        lambda all_jobs: all_jobs.move("a" * 1001),
        lambda all_jobs: all_jobs.cancel("a\x00"),
        lambda all_jobs: all_jobs.cancel(terminate=True, signal="SIGFOO"),
        lambda all_jobs: all_jobs.cancel(terminate=True, signal=4000),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_changes(app, welcome, connection, act):
    before = row(connection, welcome.delay(1).id)
    with pytest.raises(InvalidOption):
        act(jobs(app))
    assert row(connection, before["task_id"]) == before


def test_a_selection_is_narrowed_and_stays_as_it_was(app, welcome):
    welcome.delay(1)
    all_jobs = jobs(app)
    narrowed = all_jobs.filter(queue="celery").filter(queue="mail")
    assert (all_jobs.count(), narrowed.count(), narrowed.cancel()) == (1, 0, [])
    assert repr(all_jobs) == "<jobs: all>"
    assert repr(all_jobs.filter(task=welcome)) == "<jobs: task='welcome'>"
    assert jobs(all_jobs.database).count() == 1


def test_with_another_broker_the_jobs_are_the_backends(url):
    app = Celery("tests", broker="memory://", backend=url, set_as_current=False)
    assert jobs(app).count() == 0
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    with pytest.raises(PgJobsError, match="neither broker_url nor result_backend is pgjobs://"):
        jobs(app)


@pytest.fixture
def large(database, connection):
    """As the statistics see it."""
    put(database, "a")
    connection.execute("ALTER TABLE pgjobs.jobs SET (autovacuum_enabled = off)")
    connection.execute("UPDATE pg_class SET reltuples = 200000 WHERE oid = 'pgjobs.jobs'::regclass")
    yield database
    connection.execute("ALTER TABLE pgjobs.jobs RESET (autovacuum_enabled)")
    connection.execute("ANALYZE pgjobs.jobs")


def test_a_search_of_a_large_table_without_an_index_is_a_warning(large, connection, caplog):
    by_task = jobs(large).filter(task="tasks.add", kwargs={"a": 1})
    for search in (by_task.list, by_task.count, by_task.retry):
        caplog.clear()
        search()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "jobs with task='tasks.add', kwargs={'a': 1}: no index" in record.getMessage()
        assert record.getMessage().endswith("or create an index on task")
    caplog.clear()
    by_task.cancel()  # what is not finished has one
    by_task.filter(id="a").count()
    jobs(large).count()
    connection.execute("CREATE INDEX app_task ON pgjobs.jobs (task, id)")
    by_task.count()
    connection.execute("DROP INDEX pgjobs.app_task")
    assert not caplog.records


def test_the_tables_schema_may_have_another_name(make_database):
    from pgjobs_celery.db.migrations import migrate as migrations

    url = make_database()
    with migrations.session(parse_url(url)) as connection:
        migrations.migrate(connection, "app_jobs")
    app = Celery("tests", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"schema": "app_jobs"}
    app.send_task("add", (1, 2))
    assert len(jobs(app).cancel()) == len(jobs(app).retry()) == 1
    with psycopg.connect(parse_url(url)) as connection:
        assert connection.execute("SELECT state FROM app_jobs.jobs").fetchall() == [("available",)]
    jobs(app).database.close()


@pytest.mark.parametrize("exchange", ["", "celery"])
def test_a_moved_job_is_delivered_from_its_new_queue_with_its_own_routing(
    app, welcome, connect, exchange
):
    options = {"exchange": exchange, "routing_key": "celery"} if exchange else {}
    result = welcome.apply_async((7,), **options)
    assert jobs(app).filter(id=result).move("mail") == [result.id]
    with connect() as broker:
        message = broker.default_channel.basic_get("mail", no_ack=True)
    assert message.headers["id"] == result.id
    assert message.delivery_info["exchange"] == exchange
    assert message.delivery_info["routing_key"] == (exchange or "mail")
