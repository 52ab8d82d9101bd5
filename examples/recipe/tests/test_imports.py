"""An import from its upload to the people that it has brought."""

from recipe.accounts import upload
from recipe.db import Import, Person
from recipe.tasks import process_import
from sqlalchemy import func, select


def test_complete_import_workflow(pgjobs, session):
    id = upload([
        {"name": "John", "email": "john@example.com"},
        {"name": "Jane", "email": "jane@example.com"},
    ])  # fmt: skip
    pgjobs.assert_enqueued(process_import, args=[id], tags=["import"], max_attempts=5)
    assert pgjobs.drain_queue("imports") == {"completed": 1}
    batch = session.get_one(Import, id)
    assert (batch.status, batch.processed_records, batch.failed_records) == ("completed", 2, 0)
    assert session.scalar(select(func.count(Person.id))) == 2


def test_records_that_cannot_be_used_are_counted(pgjobs, session):
    id = upload([{"name": "", "email": "invalid"}])
    assert pgjobs.perform_job(process_import, [id]).get() == 0
    batch = session.get_one(Import, id)
    assert (batch.status, batch.processed_records, batch.failed_records) == ("completed", 0, 1)
