"""Publishing takes part in the transaction that Django is in, and in no other."""

from django.db import transaction

from ..rows import states


def test_x(app, connection):
    add = app.tasks["add"]
    add.delay(1, 1)
    assert len(states(connection)) == 1
    with transaction.atomic():
        add.delay(1, 1)
        assert len(states(connection)) == 1
    assert len(states(connection)) == 2
