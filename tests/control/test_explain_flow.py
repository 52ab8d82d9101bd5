"""``explain()`` of jobs that wait for a rate, a limit of a key, their turn, or a pause."""

from __future__ import annotations

import pytest

from pgjobs_celery.control.acting import begin_action
from pgjobs_celery.control.flows import Flows
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.database import Database
from pgjobs_celery.job.flow import lane_text
from tests.support.rows import put

from ..conftest import Connection
from .test_explain_rows import A, lives, why

RATE, RUNNING = "rate/queue/mail", "running/queue/mail"


def lane(connection: Connection, text: str | None, *task_ids: str, opens: float = 0.0) -> None:
    """Put these jobs into a lane, as a publisher and a claim do."""
    connection.execute(
        "UPDATE pgjobs.jobs SET lane = %s, priority = priority | 256 WHERE task_id = ANY (%s)",
        (text, list(task_ids)),
    )
    connection.execute(
        "INSERT INTO pgjobs.lanes (queue, lane, pass, gates) VALUES ('mail', %s, %s, %s)",
        (text, opens, [line for line in str(text).split("\n") if not line.startswith("share=")]),
    )


@pytest.fixture
def mail(database: Database) -> None:
    lives(database, A, "mail")
    put(database, "first", "second", "third", queue="mail")


@pytest.mark.usefixtures("mail")
def test_a_token_of_a_rate_is_waited_for(database, connection):
    Flows(database).set(RATE, "10/m", by="kwargs.tenant_id")
    lane(connection, lane_text([f"{RATE}=7"]), "first", "second", "third")
    assert why(database, "third").kind == "in_line"
    connection.execute(
        "INSERT INTO pgjobs.gates (gate, times, counts)"
        " SELECT %s, ARRAY[extract(epoch FROM clock_timestamp())::float8 - 56.8], ARRAY[10]",
        (f"{RATE}=7",),
    )
    found = why(database, "third")
    assert found.kind == "rate_used_up"
    assert "It waits for a token of rate/queue/mail, key 7 (10/m): next in " in found.text
    assert found.text.endswith("2 jobs are before it.")
    assert 0 < found.details["next_in"] <= 3.2
    assert (found.details["key"], found.details["used"]) == ("7", 10)
    Flows(database).set(RATE, "0/m", by="kwargs.tenant_id")
    assert "which allows none" in why(database, "third").text


@pytest.mark.usefixtures("mail")
def test_the_jobs_that_hold_the_places_of_a_key_are_named(database, connection):
    Flows(database).set(RUNNING, 1, by="kwargs.customer_id")
    gate = f"{RUNNING}=7"
    lane(connection, lane_text([gate]), "first", "second")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'executing', attempt = 1, claimed_by = %s,"
        " attempted_by = 'w1@web', attempted_at = now() WHERE task_id = 'first'",
        (A,),
    )
    connection.execute(
        "INSERT INTO pgjobs.gates (gate, jobs, attempts)"
        " SELECT %s, ARRAY[id], ARRAY[1] FROM pgjobs.jobs WHERE task_id = 'first'",
        (gate,),
    )
    found = why(database, "second")
    assert found.kind == "key_full"
    assert (
        "1 of running/queue/mail, key 7, which allows 1 at once, is running: first on w1@web"
        in (found.text)
    )
    connection.execute("UPDATE pgjobs.jobs SET attempt = 2 WHERE task_id = 'first'")
    assert why(database, "second").kind != "key_full"


@pytest.mark.usefixtures("mail")
def test_a_key_waits_for_its_turn(database, connection):
    Queues(database)["mail"].fair("kwargs.tenant_id")
    lane(connection, lane_text([], "7"), "first", "second", opens=2.0)
    lane(connection, lane_text([], "8"), "third", opens=1.0)
    found = why(database, "second")
    assert found.kind == "waits_for_turn"
    assert "the values of kwargs.tenant_id in turn, and key 7 waits" in found.text
    assert (found.details["ahead"], found.details["lanes_ahead"]) == (1, 1)


@pytest.mark.usefixtures("mail")
@pytest.mark.parametrize("is_parked", [False, True])
def test_a_pause_of_a_task_tag_or_key_is_told_with_its_author(database, connection, is_parked):
    flows = Flows(database)
    (task,) = {row["task"] for row in connection.execute("SELECT task FROM pgjobs.jobs")}
    flows.pause(task=task, until=3600)
    if is_parked:
        lane(connection, f"pause/task/{task}", "first")
    found = why(database, "first")
    assert found.kind == "jobs_paused"
    assert f"Task {task} is paused since" in found.text
    assert f" by {begin_action('pause_jobs').actor}, until " in found.text
    assert found.remedy == f"celery -A proj pgjobs resume --task {task}"
    flows.resume(task=task)
    lane(connection, lane_text([f"{RATE}=9"], "7"), "second")
    flows.pause(key="7", queue="mail")
    assert "Key 7 of queue mail is paused" in why(database, "second").text
    assert why(database, "third").kind != "jobs_paused"


def test_a_pause_of_a_queue_tells_its_end(database):
    lives(database, A, "mail")
    put(database, "a", queue="mail")
    Queues(database).pause("mail", until=3600)
    assert ", in 1 h 0 min" in why(database, "a").text or "in 60 min" in why(database, "a").text
