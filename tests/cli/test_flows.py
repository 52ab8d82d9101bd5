"""``celery pgjobs queues`` and ``celery pgjobs flows``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery.job.flow import lane_text
from tests.support.rows import put

Run = Callable[..., Result]


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``celery pgjobs ... --url``."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    def run(*args: str) -> Result:
        done = CliRunner().invoke(celery, ["pgjobs", *args, "--url", url])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


def test_the_rules_of_a_queue_are_set_and_listed(run, database):
    for words, told in [
        (
            "rate mail 100/m --burst 20 --by kwargs.tenant_id",
            "begins at most 100/m of each kwargs",
        ),
        (
            "concurrency mail 2 --by kwargs.tenant_id",
            "mail runs 2 at once of each kwargs.tenant_id",
        ),
        ("concurrency mail 9", "mail runs 9 at once"),
        ("fair mail kwargs.tenant_id --ageing 1m", "mail serves each kwargs.tenant_id in turn"),
        ("weight mail 7 3", "7 has weight 3 in mail"),
        ("depth mail 10000 --on-full wait --wait 5s", "mail holds at most 10000 that wait"),
        ("pause mail --until 2h", "mail is paused for 2h"),
    ]:
        done = run("queues", *words.split())
        assert (done.exit_code, told in done.output) == (0, True), done.output
    (queue,) = json.loads(run("queues", "list", "--json").output)
    assert (queue["concurrency"], queue["fair_by"], queue["ageing"]) == (9, "kwargs.tenant_id", 60)
    assert (queue["max_depth"], queue["on_full"], queue["full_wait"]) == (10000, "wait", 5)
    assert queue["paused_until"]
    shown = run("queues", "list").output
    assert "kwargs.tenant_id" in shown
    assert "until 20" in shown
    found = json.loads(run("flows", "list", "--json").output)
    assert [(each["name"], each["limit"], each["burst"]) for each in found["flows"]] == [
        ("rate/queue/mail", "100/m", 20), ("running/queue/mail", 2, None),
    ]  # fmt: skip
    for words in ("unfair mail", "depth mail none", "weight mail 7 none", "resume mail"):
        assert run("queues", *words.split()).exit_code == 0
    assert "mail has the rules of the code" in run("queues", "reset", "mail").output
    assert "no rates" in run("flows", "list").output


def test_a_flow_is_set_shown_and_reset(run, database, connection):
    put(database, "a", queue="mail")
    lane = lane_text(["rate/queue/mail=7"])
    connection.execute("UPDATE pgjobs.jobs SET lane = %s, priority = priority + 256", (lane,))
    connection.execute(
        "INSERT INTO pgjobs.lanes (queue, lane, pass, gates) VALUES ('mail', %s, 0, %s)",
        (lane, [lane]),
    )
    assert run("flows", "set", "rate/queue/mail", "5/m", "--by", "kwargs.id").exit_code == 0
    shown = run("flows", "show", "rate/queue/mail").output
    assert "rate/queue/mail: 5/m, of each kwargs.id, window; set by hand" in shown
    assert [line.split() for line in shown.splitlines() if line.strip().startswith("7")] == [
        ["7", "0", "5", "1", "now"]
    ]
    listed = run("flows", "list").output
    assert "rate/queue/mail" in listed
    assert "did you mean 'rate/queue/mail'" in run("flows", "show", "rate/queue/mial").output
    assert run("flows", "reset", "rate/queue/mail").output == "rate/queue/mail is reset\n"
    assert "was not set by hand" in run("flows", "reset", "rate/queue/mail").output


def test_jobs_are_paused_by_task_tag_and_key(run, database):
    assert run("pause", "--task", "shop.send", "--until", "90").output == (
        "task shop.send is paused for 90\n"
    )
    for words in (("pause",), ("queues", "pause")):
        refused = run(*words, "mail", "--key", "7")
        assert refused.exit_code == 1
        assert "queue 'mail' has no keys, so nothing would be paused" in refused.output
        assert "Run celery -A proj pgjobs queues fair mail kwargs.tenant_id" in refused.output
    run("queues", "fair", "mail", "kwargs.tenant_id")
    assert run("queues", "pause", "mail", "--key", "7").output == "key 7 of mail is paused\n"
    run("pause", "--tag", "import", "--until", "2999-01-01T00:00+00:00")
    listed = run("flows", "list").output
    for what in ("task shop.send is", "key 7 of mail is", "tag import is", "until 2999-01-01"):
        assert what in listed
    assert run("resume", "--task", "shop.send").output == "task shop.send is resumed\n"
    assert run("resume", "--task", "shop.send").output == "task shop.send was not paused\n"
    assert run("resume", "mail", "--key", "7").output == "key 7 of mail is resumed\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("pause", "name a queue, or give --task"),
        ("pause --key 7", "name that"),
        ("pause mail --task a", "paused in all queues"),
        ("pause --task a --tag b", "give one of"),
        ("pause mail --until soon", "neither a duration"),
        ("queues rate mail fast", "a rate is written"),
        ("queues rate mail 5/m --by a-b", "by an argument is written"),
        ("queues fair mail kwargs.", "by an argument is written"),
        ("queues weight mail 7 heavy", "neither a number nor none"),
        ("queues weight mail 7 0", "a weight is a number above 0"),
        ("queues depth mail many", "neither a whole number"),
        ("queues depth mail 5 --wait 3", "wait is for"),
        ("flows set mail 5/m", "a flow is called"),
        ("flows set running/queue/mail 5/m", "a whole number from 0"),
        ("flows show rate/stripe", "there is no rule 'rate/stripe'"),
    ],
)
def test_what_cannot_be_set_is_one_line(run, database, words, complaint):
    done = run(*words.split())
    assert done.exit_code != 0
    assert complaint in " ".join(done.output.split())


def test_a_queue_that_is_full_is_explained(run, database):
    run("queues", "depth", "mail", "1")
    put(database, "a", queue="mail")
    done = run("queues", "explain", "mail")
    assert done.exit_code == 0, done.output
    text, remedy = done.output.splitlines()
    assert text.endswith("No live worker consumes it: start one.")
    assert remedy == "Try: celery -A proj worker --queues mail"
    found = json.loads(run("queues", "explain", "mail", "--json").output)
    assert (found["kind"], found["depth"], found["max_depth"]) == ("full", 1, 1)
    run("queues", "depth", "mail", "5")
    assert run("queues", "explain", "mail").output.startswith("Queue mail has room for 4 more")
