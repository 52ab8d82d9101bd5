"""What the web and others call; each is one transaction, its jobs included."""

from datetime import timedelta

from sqlalchemy import select

from pgjobs_celery import jobs, using

from .app import app
from .db import Import, Session, StagingRecord, User, now
from .tasks import (
    process_import,
    remind_of_trial,
    send_email,
    send_newsletter,
    set_up_account,
    track,
)

#: Nobody may have this one.
TAKEN = "root"


class Invalid(ValueError):
    """What was entered cannot be used."""


def create_user(name, email):
    with Session.begin() as session, using(session):
        if "@" not in email:
            raise Invalid(f"{email!r} is no email address")
        user = User(name=name, email=email)
        session.add(user)
        session.flush()
        send_email.delay(user_id=user.id, type="welcome")
        if name == TAKEN:
            # Too late: the user is inserted and the job enqueued. Neither will have been.
            raise Invalid(f"{name!r} is taken")
        return user.id


def onboard(user_id):
    with Session.begin() as session, using(session):
        send_email.delay(user_id, "welcome")
        set_up_account.apply_async([user_id], countdown=3600)
        track.delay(user_id, event="user_created")


def start_trial(user_id):
    with Session.begin() as session, using(session):
        remind_of_trial.apply_async([user_id], eta=now() + timedelta(days=25))


def upload(rows):
    with Session.begin() as session, using(session):
        batch = Import()
        session.add(batch)
        session.flush()
        session.add_all(StagingRecord(import_id=batch.id, raw_data=row) for row in rows)
        process_import.delay(batch.id)
        return batch.id


def send_newsletter_to_all(newsletter_id):
    with Session.begin() as session, using(session):
        ids = session.scalars(select(User.id).filter_by(is_subscribed=True).order_by(User.id))
        items = ({"user_id": id, "newsletter_id": newsletter_id} for id in ids.all())
        return send_newsletter.enqueue_many(items)


def unsubscribe(user_id):
    with Session.begin() as session, using(session):
        session.get_one(User, user_id).is_subscribed = False
        waiting = jobs(app).filter(task=send_newsletter, kwargs={"user_id": user_id})
        return waiting.cancel("unsubscribed")
