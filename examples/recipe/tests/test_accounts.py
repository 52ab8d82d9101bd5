"""Integration tests: what is enqueued is a row, and there exactly if the user is."""

from datetime import timedelta

import pytest
from recipe.accounts import Invalid, create_user, start_trial
from recipe.db import User, now
from recipe.tasks import remind_of_trial, send_email
from sqlalchemy import func, select


def test_creates_user_and_enqueues_welcome_email(pgjobs_real, session):
    user = session.get_one(User, create_user("John Doe", "john@example.com"))
    assert (user.name, user.email) == ("John Doe", "john@example.com")
    pgjobs_real.assert_enqueued(
        send_email, kwargs={"user_id": user.id, "type": "welcome"}, queue="emails", count=1
    )


def test_does_not_enqueue_email_for_an_invalid_address(pgjobs_real, session):
    with pytest.raises(Invalid):
        create_user("John Doe", "invalid-email")
    pgjobs_real.refute_enqueued(send_email)


def test_a_transaction_that_is_rolled_back_takes_its_job_along(pgjobs_real, session):
    with pytest.raises(Invalid, match="taken"):
        create_user("root", "root@example.com")
    assert session.scalar(select(func.count(User.id))) == 0
    pgjobs_real.refute_enqueued(send_email)


def test_the_welcome_email_is_sent(pgjobs_real, session, outbox):
    create_user("John Doe", "john@example.com")
    assert pgjobs_real.drain_queue("emails") == {"completed": 1}
    assert [mail.to for mail in outbox] == ["john@example.com"]


def test_the_reminder_comes_on_the_25th_day(pgjobs, user):
    start_trial(user.id)
    pgjobs.assert_enqueued(remind_of_trial, args=[user.id], eta=now() + timedelta(days=25))
    pgjobs.advance(timedelta(days=24))
    assert pgjobs.drain_queue() == {}
    pgjobs.advance(timedelta(days=1))
    assert pgjobs.drain_queue() == {"completed": 1}
