"""``celery pgjobs audit``, and the names that the other commands act under."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Callable

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery import acting_as, audit, jobs
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.db.rows.audit import AuditEntry
from tests.support.rows import put

Run = Callable[..., Result]


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``celery pgjobs ... --url``."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)

    def run(*args: str) -> Result:
        done = CliRunner().invoke(celery, ["pgjobs", *args, "--url", url])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


USER = pwd.getpwuid(os.geteuid()).pw_name
ME = f"{USER}@{socket.gethostname()}"

#: Each command on a database, and its action.
COMMANDS = {
    ("cancel", "a", "--reason", "a mistake"): "cancel_jobs",
    ("retry", "late"): "retry_jobs",
    ("delete", "a"): "delete_jobs",
    ("reschedule", "a", "--in", "5m"): "reschedule_jobs",
    ("prioritize", "a", "--to", "3"): "prioritize_jobs",
    ("move", "a", "--to", "slow"): "move_jobs",
    ("pause", "celery"): "pause_queue",
    ("limit", "celery", "4"): "limit_queue",
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_acts_as_the_user_of_this_machine(run, database, words):
    put(database, "a")
    put(database, "late", eta=60)
    assert run(*words).exit_code == 0
    [entry] = audit(database).list()
    assert (entry.action, entry.actor, entry.via) == (COMMANDS[words], ME, "cli")
    assert entry.jobs == (0 if entry.action.endswith("_queue") else 1)


def test_a_user_who_has_become_another_is_named(run, database, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    run("pause", "celery")
    [entry] = audit(database).list()
    assert entry.actor == f"alice@{socket.gethostname()}"
    assert entry.client.startswith(f"{ME}, ")


def test_what_is_only_looked_at_is_not_recorded(run, database):
    put(database, "a")
    for words in (["jobs"], ["show", "a"], ["explain", "a"], ["status"], ["audit"]):
        assert run(*words).exit_code == 0
    assert run("cancel", "b").exit_code == 1
    assert audit(database).list() == []


def test_actions_are_listed_newest_first(run, database):
    assert run("audit").output == "Nothing of that was recorded.\n"
    put(database, "a", "b", "c")
    with acting_as("alice"):
        jobs(database).filter(id="a").cancel("a mistake")
        Queues(database).pause("mail")
    with acting_as("bob"):
        jobs(database).filter(queue="celery", state="available").move("slow")
    done = run("audit")
    lines = [line.split() for line in done.output.splitlines() if line.strip()]
    assert lines[0] == ["at", "(UTC)", "actor", "via", "action", "to", "with"]
    assert [line[2:5] for line in lines[2:]] == [
        ["bob", "program", "move_jobs"],
        ["alice", "program", "pause_queue"],
        ["alice", "program", "cancel_jobs"],
    ]
    assert "2 jobs of queue celery" in done.output
    assert "queue='celery', state='available'; to: slow" in done.output
    assert "job a of queue celery" in done.output
    assert "reason: a mistake" in done.output
    assert "The last 2; --limit 0 shows all." in run("audit", "--limit", "2").output


def test_actions_are_found_by_each_option(run, database):
    put(database, "a", "b")
    with acting_as("alice"):
        jobs(database).filter(id="a").cancel()
    with acting_as("bob"):
        Queues(database).pause("mail")
    for words in (
        ("--actor", "alice"), ("--action", "cancel_jobs"), ("--queue", "celery"), ("--job", "a"),
        ("--actor", "alice", "--since", "5m"),
    ):  # fmt: skip
        found = json.loads(run("audit", "--json", *words).output)
        assert [entry["actor"] for entry in found] == ["alice"], words
        assert found[0].keys() == {*AuditEntry._fields}
    assert json.loads(run("audit", "--json", "--job", "b").output) == []
    assert json.loads(run("audit", "--json", "--since", "0").output) == []
    wrong = run("audit", "--action", "cancel_job")
    assert wrong.exit_code == 1
    assert "no action 'cancel_job'; did you mean 'cancel_jobs'" in wrong.output


EVIL = "O'Brien\"\r\nroot\x1b]0;owned\x07\N{RIGHT-TO-LEFT OVERRIDE}nimda[bold]\x7f"


def test_names_come_out_harmless(run, database):
    put(database, "a")
    with acting_as(EVIL):
        Queues(database).pause(EVIL)
        jobs(database).filter(id="a").cancel(EVIL)
    for words in (("audit",), ("audit", "--json"), ("show", "a"), ("explain", "a")):
        output = run(*words).output
        for char in "\r\x1b\x07\N{RIGHT-TO-LEFT OVERRIDE}\x7f":
            assert char not in output, words
    assert json.loads(run("audit", "--json").output)[0]["actor"] == EVIL


def test_show_lists_what_was_done_to_a_job(run, database):
    put(database, "a")
    with acting_as("alice"):
        jobs(database).filter(id="a").move("slow")
        jobs(database).filter(id="a").cancel()
    actions = json.loads(run("show", "a", "--json").output)["actions"]
    assert [(each["actor"], each["action"]) for each in actions] == [
        ("alice", "cancel_jobs"), ("alice", "move_jobs"),
    ]  # fmt: skip
    assert "alice" in run("show", "a").output
