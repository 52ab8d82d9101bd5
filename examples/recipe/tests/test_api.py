"""An API that is down at first: the attempts of a job."""

import pytest
from recipe import external
from recipe.tasks import call_api


@pytest.fixture
def answers(monkeypatch):
    """What the API answers, one after the other."""
    answers = []

    def call(endpoint, data):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(external, "call", call)
    return answers


def test_retries_on_temporary_failures(pgjobs, answers):
    answers[:] = [external.Timeout("no answer"), {"status": "success"}]
    performed = pgjobs.perform_job(call_api, ["/users", {}])
    assert performed.outcome == "retried"
    assert isinstance(performed.error, external.Timeout)
    assert pgjobs.perform_job(call_api, ["/users", {}], attempt=2).get() == {"status": "success"}


def test_the_same_job_succeeds_later(pgjobs, answers):
    answers[:] = [external.Timeout("no answer"), {"status": "success"}]
    sent = call_api.delay("/users", {})
    assert pgjobs.drain_queue() == {"retried": 1}
    assert pgjobs.drain_queue() == {}, "its time has not come"
    pgjobs.advance(60)
    assert pgjobs.drain_queue() == {"completed": 1}
    assert sent.get() == {"status": "success"}


def test_gives_up_after_the_last_attempt(pgjobs, answers):
    answers[:] = [external.Timeout("no answer")] * 4
    call_api.delay("/users", {})
    counts = pgjobs.drain_queue(with_scheduled=True, with_recursion=True)
    assert counts == {"retried": 3, "discarded": 1}
