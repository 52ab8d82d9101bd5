"""The line on top says that something is wrong exactly if something needs somebody."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pgjobs_celery.control.attention import LATE, Part, attention, late_queues, percent
from pgjobs_celery.control.doctor.findings import finding
from pgjobs_celery.control.history import Failing
from pgjobs_celery.control.overview import QueueNow

SINCE = datetime(2026, 11, 29, 2, 10, tzinfo=timezone.utc)
LATE_QUEUE = QueueNow("mail", ready=3, oldest_wait=LATE + 1)
WRONG = finding("dead_node", "n is dead", "bury it")
NOTICE = finding("queue_paused", "it is paused", "resume it")
FAILING = Failing("mail.send", SINCE, 14, 100)


def test_nothing_is_wrong():
    found = attention([NOTICE], [QueueNow("a", ready=3, oldest_wait=LATE)], [])
    assert found.is_well
    assert found.line == ()
    assert found.notices == (NOTICE,)


def test_the_line_counts_what_is_wrong_and_names_the_worst_task():
    found = attention(
        [WRONG, WRONG, NOTICE, WRONG],
        [LATE_QUEUE, LATE_QUEUE, QueueNow("b")],
        [FAILING, FAILING, FAILING],
    )
    assert found.line == (
        Part("3 findings", "finding"),
        Part("2 queues late", "queue"),
        Part("14 % of mail.send failing", "task", SINCE),
        Part("2 more tasks failing", "task"),
    )
    assert not found.is_well


def test_one_of_each_is_said_in_the_singular():
    found = attention([WRONG], [LATE_QUEUE], [FAILING, FAILING])
    assert [part.text for part in found.line] == [
        "1 finding", "1 queue late", "14 % of mail.send failing", "1 more task failing",
    ]  # fmt: skip


def test_a_queue_that_is_held_back_on_purpose_is_not_late():
    held = [
        QueueNow("a", oldest_wait=999.0, paused_at=SINCE),
        QueueNow("b", oldest_wait=999.0, concurrency=0),
        QueueNow("c", oldest_wait=None),
    ]
    worse = QueueNow("d", oldest_wait=999.0, concurrency=1)
    assert late_queues([*held, LATE_QUEUE, worse]) == (worse, LATE_QUEUE)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"), (0.0001, "0.1 %"), (0.004, "0.4 %"), (0.14, "14 %"), (0.9999, "99.9 %"),
        (1, "100 %"),
    ],
)  # fmt: skip
def test_a_share_is_not_rounded_to_none_or_all(share, text):
    assert percent(share) == text
