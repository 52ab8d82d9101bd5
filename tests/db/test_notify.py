"""Who waits is woken once, and nobody is notified of anything while nobody waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest

from pgjobs_celery.config import Options
from pgjobs_celery.db import notify
from pgjobs_celery.db.connection import CONNECTION_ERRORS
from pgjobs_celery.db.database import Database
from pgjobs_celery.db.notify import Listener, result_channel, waiter, work_channel
from pgjobs_celery.job.outcome import Result, completed, released
from pgjobs_celery.job.rows import Bucket, Fence
from pgjobs_celery.job.states import State
from tests.support.rows import put
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("alone", "living_nodes")

NODE = UUID(int=1)


@pytest.fixture
def worker(database: Database) -> Iterator[Listener]:
    listener = database.listen_for_work()
    yield listener
    listener.close()


@pytest.fixture
def client(database: Database) -> Iterator[Listener]:
    listener = database.listen_for_results()
    yield listener
    listener.close()


@pytest.fixture
def heard(database: Database) -> Iterator[Callable[[], list[str]]]:
    """Asked for every payload so far, in order, as somebody hears them who only listens."""
    with psycopg.connect(database.conninfo, autocommit=True) as ear:
        for channel in (work_channel("pgjobs"), result_channel("pgjobs")):
            ear.execute(f"LISTEN {channel}")

        def heard() -> list[str]:
            ear.execute(f"NOTIFY {work_channel('pgjobs')}, 'mark'")
            payloads: list[str] = []
            while "mark" not in payloads:
                payloads += [n.payload for n in ear.notifies(timeout=5, stop_after=1)]
            return payloads[: payloads.index("mark")]

        yield heard


def locks(database: Database) -> int:
    with psycopg.connect(database.conninfo, autocommit=True) as other:
        found = other.execute(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND l.classid = %s AND d.datname = current_database()",
            (notify.SLEEPERS,),
        ).fetchone()
        return found[0]


def finish(database: Database, task_id: str, *, by_child: bool = False) -> None:
    put(database, task_id)
    (claim,), _ = database.claims.claim_jobs(NODE, "n", [Bucket("celery")], 1)
    result = Result(task_id, b"1", "application/json", None, None, None)
    if by_child:
        database.results.finish_job(result, State.COMPLETED, Fence(NODE, 1))
    else:
        database.claims.settle_jobs(NODE, [completed(claim, result)])


# -- the gate ------------------------------------------------------------------------------------


def test_nobody_asleep_is_no_notification(heard, database, worker):
    put(database, "a", "b")
    put(database, "later", eta=60)
    assert heard() == []


def test_one_asleep_hears_of_each_job_exactly_once(heard, database, worker):
    worker.announce(["celery"])
    put(database, "a", "b")
    assert heard() == ["jcelery", "jcelery"]


def test_only_the_queues_that_are_waited_for_are_announced(heard, database, worker):
    worker.announce(["one", "two"])
    for queue in ("one", "three", "two", ""):
        put(database, "", queue=queue)
    assert heard() == ["jone", "jtwo"]


def test_a_scheduled_job_is_announced_to_whoever_minds_the_due_times(heard, database, worker):
    worker.announce(["celery", ""])
    put(database, "later", eta=60)
    assert heard() == ["jcelery", "d"]


def test_who_is_awake_again_hears_no_more(heard, database, worker):
    worker.announce(["celery", "other", ""])
    worker.announce(["other"])
    assert locks(database) == 1
    put(database, "a")
    put(database, "b", queue="other")
    worker.announce([])
    assert locks(database) == 0
    put(database, "c", queue="other")
    assert heard() == ["jother"]


def test_announcing_again_what_is_announced_holds_one_lock(database, worker):
    for _ in range(3):
        worker.announce(["celery"])
    assert locks(database) == 1
    worker.announce([])
    assert locks(database) == 0


def test_two_schemas_and_the_two_kinds_of_waiting_have_channels_of_their_own():
    names = [name(s) for name in (work_channel, result_channel) for s in ("a", "b")]
    assert len(set(names)) == 4
    assert max(map(len, [work_channel("x" * 63), result_channel("x" * 63)])) == 63


def test_every_one_of_several_sleepers_hears_and_one_who_wakes_takes_nothing_from_the_others(
    heard, database, worker
):
    second = database.listen_for_work()
    try:
        worker.announce(["celery"])
        second.announce(["celery"])
        put(database, "a")
        assert worker.wait(5) == second.wait(5) == {"jcelery"}
        worker.announce([])
        put(database, "b")
        assert second.wait(5) == {"jcelery"}
        assert heard() == ["jcelery", "jcelery"]
    finally:
        second.close()


def test_staging_wakes_who_waits_for_the_queue_once(heard, database, connection, worker):
    put(database, "a", "b", eta=60)
    put(database, "c", eta=60, queue="other")
    connection.execute("UPDATE pgjobs.jobs SET due_at = now()")
    worker.announce(["celery"])
    database.claims.stage_jobs(10)
    assert heard() == ["jcelery"]


def test_what_is_put_back_wakes_with_the_word_that_it_may_stand_anywhere(heard, database, worker):
    put(database, "a", "b")
    claims, _ = database.claims.claim_jobs(NODE, "n", [Bucket("celery")], 2)
    worker.announce(["celery"])
    database.claims.settle_jobs(NODE, [released(claim) for claim in claims])
    assert set(heard()) == {"bcelery"}


# -- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_child", [True, False])
def test_a_result_is_announced_only_to_who_waits_for_it(heard, database, client, by_child):
    finish(database, "a", by_child=by_child)
    client.announce([waiter("b")])
    finish(database, "b", by_child=by_child)
    assert heard() == ["rb"]
    client.announce([])
    finish(database, "c", by_child=by_child)
    assert heard() == []


def test_waiting_for_many_takes_a_bounded_number_of_locks(database, client):
    client.announce({waiter(str(number)) for number in range(20_000)})
    assert locks(database) == notify.SLOTS


# -- the listener --------------------------------------------------------------------------------


def test_waiting_ends_with_the_first_payload_or_with_the_time(database, worker):
    worker.announce(["celery"])
    assert worker.wait(0) == set()
    threading.Timer(0.05, put, (database, "a")).start()
    assert worker.wait(10) == {"jcelery"}
    assert worker.wait(0.01) == set()


def test_what_came_while_a_statement_ran_is_read(database, worker):
    worker.announce(["celery"])
    put(database, "a")
    worker.announce(["celery", "other"])
    assert worker.read() == {"jcelery"}


def test_a_listener_whose_session_was_ended_raises_a_connection_error(database, connection, worker):
    pid = worker._connection.psycopg.info.backend_pid
    connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(CONNECTION_ERRORS):
        [worker.wait(5) for _ in range(3)]


def test_listening_may_go_another_way(database, url):
    pooled = Database(database.conninfo, Options(listen_url=url))
    listener = pooled.listen_for_work()
    listener.announce(["celery"])
    put(database, "a")
    assert listener.wait(5) == {"jcelery"}
    listener.close()
    pooled.close()


SLEEPER = """
import sys
from pgjobs_celery.config import Options
from pgjobs_celery.db.database import Database
listener = Database(sys.argv[1], Options()).listen_for_work()
listener.announce(["celery"])
print("asleep", flush=True)
listener.wait(60)
"""


def test_the_server_frees_what_a_process_announced_when_it_dies(heard, database, worker):
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, database.conninfo], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "asleep\n"
        assert locks(database) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: locks(database) == 0)
        put(database, "a")
        assert heard() == []
    finally:
        process.kill()
        process.wait()


# -- races ---------------------------------------------------------------------------------------


def pool_of(database: Database, work: Callable[[int], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_no_job_is_missed_between_the_announcement_and_the_look(database, worker):
    """Announce, look once more, wait: whatever is committed meanwhile is seen or heard."""
    count, producers = 150, 3

    def produce(number: int) -> None:
        for index in range(count):
            put(database, f"{number}-{index}")

    threads = pool_of(database, produce, producers)
    seen = 0
    silent = 0
    while seen < count * producers:
        worker.announce(["celery"])
        while True:
            claims, _ = database.claims.claim_jobs(NODE, "n", [Bucket("celery")], 3)
            if not claims:
                break
            seen += len(claims)
            outcomes = [completed(claim) for claim in claims]
            assert database.claims.settle_jobs(NODE, outcomes) == []
        if seen < count * producers and not worker.wait(5):
            silent += 1
        worker.announce([])
    for thread in threads:
        thread.join()
    assert silent == 0


def test_no_result_is_missed_between_the_announcement_and_the_look(database, client):
    for number in range(60):
        task_id = f"t{number}"
        thread = threading.Thread(target=finish, args=(database, task_id))
        thread.start()
        client.announce([waiter(task_id)])
        while not database.results.finished_ids([task_id]):
            assert client.wait(5), task_id
        thread.join()
        client.announce([])
        client.read()
