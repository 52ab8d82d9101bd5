"""Claims of which a process has not learned are put back, and no others."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

from pgjobs_celery.db.connection import CONNECTION_ERRORS
from pgjobs_celery.job.outcome import completed
from pgjobs_celery.node.look_back import LookBack
from tests.node.cuts import CELERY, claim_through_cuts, cut
from tests.support.rows import put, row, states
from tests.support.waiting import wait_for


def test_what_was_claimed_without_an_answer_is_put_back_and_what_is_known_is_not(
    database, connection, node, caplog
):
    put(database, "held", "settled", "unknown", "waits")
    held, settled = node.claim_jobs(CELERY, 2)
    node.settle(completed(settled))
    # As if the answer to this had been cut off.
    database.claims.claim_jobs(node.id, node.name, CELERY, 1)
    cut(database)
    with pytest.raises(CONNECTION_ERRORS):
        node.claim_jobs(CELERY, 1)
    with caplog.at_level(logging.WARNING):
        (again,) = claim_through_cuts(node, 1)
    assert again.redelivered
    assert (again.attempt, row(connection, "unknown")["id"]) == (1, again.id)
    assert states(connection) == {
        "held": "executing", "settled": "completed", "unknown": "executing", "waits": "available",
    }  # fmt: skip
    assert row(connection, "held")["attempt"] == held.attempt == 1
    assert "put back 1 jobs whose claim was cut off" in caplog.text


@pytest.mark.parametrize("then", ["claim", "leave"])
def test_a_claim_to_which_the_server_comes_when_it_was_given_up_is_put_back(
    url, database, connection, node, monkeypatch, then
):
    """Its connection was cut off while a process of the server did nothing, and that goes on."""
    monkeypatch.setattr(f"{LookBack.__module__}.LOOK_BACK", 0.2)
    assert node.claim_jobs(CELERY, 1) == []
    (claiming,) = database._idle
    pid = claiming.psycopg.info.backend_pid
    cutter = threading.Timer(0.1, claiming.liveness.cut)
    os.kill(pid, signal.SIGSTOP)
    try:
        cutter.start()
        with pytest.raises(CONNECTION_ERRORS):
            node.claim_jobs(CELERY, 1)
        assert node.claim_jobs(CELERY, 1) == []  # looked for, and not there yet
        put(database, "a")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: states(connection) == {"a": "executing"})
    if then == "claim":
        wait_for(lambda: node.claim_jobs(CELERY, 1))
        assert row(connection, "a")["attempt"] == 1
    else:
        node.close()
        assert states(connection) == {"a": "available"}


def test_nothing_is_put_back_while_nothing_was_cut(database, connection, node):
    put(database, "a")
    database.claims.claim_jobs(node.id, node.name, CELERY, 1)
    node.claim_jobs(CELERY, 1)
    assert states(connection) == {"a": "executing"}
