"""A workflow: several jobs, in order, each at its time."""

from recipe.accounts import onboard
from recipe.tasks import send_email, set_up_account, track


def test_enqueues_complete_onboarding_workflow(pgjobs, user, outbox):
    onboard(user.id)
    pgjobs.assert_enqueued(send_email, kwargs={"user_id": user.id, "type": "welcome"})
    pgjobs.assert_enqueued(set_up_account, kwargs={"user_id": user.id}, countdown=3600)
    pgjobs.assert_enqueued(track, kwargs={"user_id": user.id, "event": "user_created"})
    pgjobs.assert_enqueued_in_order(send_email, set_up_account, track)


def test_the_account_is_set_up_an_hour_later(pgjobs, user, outbox):
    onboard(user.id)
    assert pgjobs.drain_queue() == {"completed": 2}
    pgjobs.advance(3600)
    assert [job.task for job in pgjobs.due()] == [set_up_account.name]
