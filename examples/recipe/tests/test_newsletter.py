"""Many jobs at once, and cancelling those of one user."""

from recipe.accounts import send_newsletter_to_all, unsubscribe
from recipe.app import app
from recipe.db import User
from recipe.tasks import send_newsletter

from pgjobs_celery import jobs


def test_a_newsletter_is_one_job_for_each_user(pgjobs, session):
    session.add_all(User(name=f"user {n}", email=f"{n}@example.com") for n in range(3))
    session.commit()
    with pgjobs.assert_enqueued(
        send_newsletter, kwargs={"newsletter_id": "weekly-update"}, count=3
    ):
        assert send_newsletter_to_all("weekly-update") == 3


def test_cancels_pending_newsletter_jobs_when_user_unsubscribes(pgjobs_real, user, outbox):
    sent = send_newsletter.delay(user_id=user.id, newsletter_id="weekly-update")
    other = send_newsletter.delay(user_id=user.id + 1, newsletter_id="weekly-update")
    unsubscribe(user.id)
    assert jobs(app).get(sent.id).state == "cancelled"
    assert jobs(app).get(other.id).state == "available"
    pgjobs_real.refute_enqueued(send_newsletter, kwargs={"user_id": user.id})


def test_one_that_runs_all_the_same_cancels_itself(pgjobs, session, outbox):
    user = User(name="Ann", email="ann@example.com", is_subscribed=False)
    session.add(user)
    session.commit()
    performed = pgjobs.perform_job(send_newsletter, [user.id, "weekly-update"])
    assert (performed.outcome, performed.reason) == ("cancelled", "unsubscribed")
    assert outbox == []
