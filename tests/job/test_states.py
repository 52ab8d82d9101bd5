from __future__ import annotations

import re

import pytest
from celery import states

from pgjobs_celery.job.states import FINAL, FROM_CELERY, TO_CELERY, State, celery_state

from ..conftest import Connection


def test_every_state_has_a_name_in_celery():
    assert set(TO_CELERY) == set(State)
    assert set(TO_CELERY.values()) <= states.ALL_STATES


def test_what_is_final_here_is_final_in_celery():
    for state in State:
        assert state.is_final == (TO_CELERY[state] in states.READY_STATES)
    assert {state for state in State if state.is_final} == FINAL


def test_a_state_that_celery_stores_reads_back_as_itself():
    for name, state in FROM_CELERY.items():
        assert TO_CELERY[state] == name


@pytest.mark.parametrize("state", [state for state in State if not state.is_final])
def test_what_a_task_says_of_itself_counts_while_it_is_not_finished(state: State):
    assert celery_state(state, "PROGRESS") == "PROGRESS"
    assert celery_state(state, None) == TO_CELERY[state]


@pytest.mark.parametrize("has_result", [True, False])
@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_finished_job_does_not_say_what_its_task_said_before_where_the_row_is_asked(
    state: State, has_result: bool
):
    for reported in ("PROGRESS", "PENDING", None):
        read = celery_state(state, reported, has_result=has_result, from_row=True)
        assert read == TO_CELERY[state]


@pytest.mark.parametrize(
    ("state", "reported", "has_result", "read"),
    [
        (State.COMPLETED, None, True, "SUCCESS"),
        (State.COMPLETED, None, False, "PENDING"),
        (State.COMPLETED, "PROGRESS", True, "PROGRESS"),  # and the result is of that
        (State.COMPLETED, "RETRY", False, "RETRY"),  # a PgTask's exception stands in its errors
        (State.DISCARDED, None, False, "FAILURE"),
        (State.DISCARDED, None, True, "FAILURE"),
        (State.DISCARDED, "PENDING", False, "PENDING"),
        (State.DISCARDED, "STARTED", True, "STARTED"),
        (State.CANCELLED, None, False, "REVOKED"),
        (State.CANCELLED, "RETRY", True, "REVOKED"),
    ],
)
def test_an_end_of_which_nothing_was_stored_reads_as_what_was_stored_last(
    state: State, reported: str | None, has_result: bool, read: str
):
    assert celery_state(state, reported, has_result=has_result) == read


def test_a_state_prints_as_it_stands_in_the_row():
    assert f"{State.AVAILABLE}" == "available"


def test_the_table_knows_the_same_states(connection: Connection):
    (row,) = connection.execute(
        "SELECT pg_get_constraintdef(oid) AS check FROM pg_constraint "
        "WHERE conname = 'jobs_state_fits'"
    ).fetchall()
    assert set(re.findall(r"[{,](\w+)(?=[,}])", row["check"])) == {state.value for state in State}
