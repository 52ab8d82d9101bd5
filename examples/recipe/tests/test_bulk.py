"""How long a large job takes."""

from time import perf_counter

import pytest
from recipe.accounts import upload
from recipe.db import Person
from recipe.tasks import process_import
from sqlalchemy import func, select


@pytest.mark.performance
def test_processes_large_batches_efficiently(pgjobs, session):
    id = upload({"name": f"person {n}", "email": f"{n}@example.com"} for n in range(1000))
    began = perf_counter()
    assert pgjobs.perform_job(process_import, [id]).get() == 1000
    assert perf_counter() - began < 5
    assert session.scalar(select(func.count(Person.id))) == 1000
