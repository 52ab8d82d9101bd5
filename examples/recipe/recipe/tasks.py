"""The jobs."""

from datetime import timedelta

from sqlalchemy import delete, select

from pgjobs_celery import Cancel, Discard

from . import external, mailer
from .app import app
from .db import Import, Person, Session, StagingRecord, User, now

SUBJECTS = {"welcome": "Welcome", "password_reset": "Password Reset"}


class NotFound(LookupError):
    """There is no such row."""


@app.task(max_attempts=3)
def send_email(user_id, type):
    if type not in SUBJECTS:
        raise Discard(f"Unknown email type: {type}")
    with Session() as session:
        user = session.get(User, user_id)
        if user is None:
            raise NotFound(f"no user {user_id}")
        mailer.send(user.email, f"{SUBJECTS[type]}, {user.name}")


@app.task(max_attempts=5, tags=["import", "data_processing"])
def process_import(import_id):
    with Session.begin() as session:
        batch = session.get_one(Import, import_id)
        records = session.scalars(select(StagingRecord).filter_by(import_id=import_id)).all()
        people = [Person(**record.raw_data) for record in records if is_valid(record.raw_data)]
        session.add_all(people)
        batch.status = "completed"
        batch.processed_records = len(people)
        batch.failed_records = len(records) - len(people)
        return batch.processed_records


def is_valid(raw_data):
    return bool(raw_data.get("name")) and "@" in raw_data.get("email", "")


@app.task(max_attempts=1)
def delete_old_imports(days):
    old = Import.inserted_at < now() - timedelta(days=days)
    with Session.begin() as session:
        done = delete(Import).where(old, Import.status.in_(["completed", "failed"]))
        return f"Deleted {session.execute(done).rowcount} old imports"


@app.task(bind=True, max_attempts=4)
def call_api(self, endpoint, data):
    return external.call(endpoint, data)


@app.task(tags=["newsletter"])
def send_newsletter(user_id, newsletter_id):
    with Session() as session:
        user = session.get_one(User, user_id)
        if not user.is_subscribed:
            raise Cancel("unsubscribed")
        mailer.send(user.email, f"Newsletter {newsletter_id}")


@app.task
def set_up_account(user_id):
    return f"account of user {user_id} is set up"


@app.task
def track(user_id, event):
    return f"{event} of user {user_id} is noted"


@app.task
def work(task):
    return task


@app.task
def remind_of_trial(user_id):
    return f"the trial of user {user_id} ends soon"
