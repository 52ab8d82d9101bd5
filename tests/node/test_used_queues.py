"""Others see every queue that a process uses, whichever part of it does."""

from __future__ import annotations

from pgjobs_celery.node.used_queues import UsedQueues


def test_a_queue_is_in_use_while_a_channel_consumes_from_it():
    uses, one, other = UsedQueues(), object(), object()
    uses.consume(one, ["a", "b"])
    uses.consume(other, ["b"])
    assert ("a" in uses, "b" in uses, uses.names) == (True, True, ["a", "b"])
    uses.consume(one, [])
    assert ("a" in uses, "b" in uses, uses.names) == (False, True, ["b"])
    uses.consume(other, ())
    assert uses.names == []


def test_a_queue_of_its_own_is_used_and_not_consumed_from():
    uses, connection = UsedQueues(), object()
    uses.own(connection, {"reply"})
    assert ("reply" in uses, uses.names) == (False, ["reply"])
