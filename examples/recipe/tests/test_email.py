"""Unit tests of a task: it is run, and nothing is enqueued."""

import pytest
from recipe.tasks import NotFound, send_email

from pgjobs_celery.testing import perform_job


def test_sends_welcome_email_for_valid_user(user, outbox):
    perform_job(send_email, kwargs={"user_id": user.id, "type": "welcome"}).get()
    (mail,) = outbox
    assert mail.to == user.email
    assert "Welcome" in mail.subject


def test_sends_password_reset_email_for_valid_user(user, outbox):
    perform_job(send_email, [user.id, "password_reset"]).get()
    assert "Password Reset" in outbox[0].subject


def test_fails_for_a_user_that_does_not_exist(session, outbox):
    performed = perform_job(send_email, [999_999, "welcome"])
    assert performed.outcome == "retried"
    with pytest.raises(NotFound):
        performed.get()
    assert perform_job(send_email, [999_999, "welcome"], attempt=3).outcome == "discarded"


def test_gives_up_at_once_for_an_unknown_email_type(user, outbox):
    performed = perform_job(send_email, [user.id, "unknown"])
    assert performed.outcome == "discarded"
    assert "Unknown email type" in str(performed.error)
    assert outbox == []
