"""What beat publishes: when, and what it does."""

from datetime import datetime, timedelta, timezone

from recipe.db import Import, now
from recipe.tasks import delete_old_imports

from pgjobs_celery.testing import perform_job


def test_deletes_old_completed_imports(session):
    old = Import(status="completed", inserted_at=now() - timedelta(days=35))
    recent = Import(status="completed", inserted_at=now() - timedelta(days=5))
    session.add_all([old, recent])
    session.commit()
    ids = old.id, recent.id
    result = perform_job(delete_old_imports, kwargs={"days": 30}).get()
    session.expire_all()
    assert session.get(Import, ids[0]) is None
    assert session.get(Import, ids[1]) is not None
    assert result == "Deleted 1 old imports"


def test_it_is_due_every_night_at_two(pgjobs):
    start = datetime(2026, 3, 1, tzinfo=timezone.utc)
    ticks = pgjobs.due_entries(start, timedelta(days=2))
    assert ticks == [("cleanup", start.replace(hour=2)), ("cleanup", start.replace(day=2, hour=2))]
