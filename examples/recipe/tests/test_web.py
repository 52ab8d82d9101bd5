"""Controller tests: the request is answered in another thread, and what it enqueues is seen."""

import pytest
from fastapi.testclient import TestClient
from recipe.tasks import send_email
from recipe.web import web


@pytest.fixture
def client(session):
    return TestClient(web, follow_redirects=False)


def test_creates_user_and_enqueues_welcome_email(pgjobs, client):
    answer = client.post("/users", json={"name": "John Doe", "email": "john@example.com"})
    assert answer.headers["location"].startswith("/users/")
    pgjobs.assert_enqueued(send_email, kwargs={"type": "welcome"})


def test_does_not_enqueue_email_on_validation_failure(pgjobs, client):
    answer = client.post("/users", json={"email": "invalid"})
    assert "New User" in answer.text
    pgjobs.refute_enqueued(send_email)
