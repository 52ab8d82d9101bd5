"""``celery pgjobs jobs``, ``show``, ``cancel``, ...: the commands on jobs, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery import cli_jobs
from pgjobs_celery.cli_filters import FILTER_OPTIONS
from pgjobs_celery.filters import FILTERS
from pgjobs_celery.job import Bucket
from pgjobs_celery.outcome import discarded, error_entry
from tests.db.test_matches import A
from tests.rows import alive, put, row, states

Run = Callable[..., Result]


@pytest.fixture
def run(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``celery pgjobs ... --url``."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    def run(*args: str, input: str | None = None) -> Result:
        done = CliRunner().invoke(celery, ["pgjobs", *args, "--url", url], input=input)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_jobs, "has_terminal", lambda: True)


def test_jobs_are_listed_newest_first_as_a_table(run, database):
    put(database, "a", body=b'[[1, "x"], {"y": null}, {}]')
    put(database, "b", queue="[bold]mail", task="evil\x1b[31m", eta=60)
    done = run("jobs")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines() if line.strip()]
    assert lines[0] == ["id", "state", "queue", "task", "attempt", "age", "arguments"]
    assert lines[2][:5] == ["b", "scheduled", "[bold]mail", "evil\ufffd[31m", "0/20"]
    assert lines[3][:5] == ["a", "available", "celery", "tasks.add", "0/20"]
    assert lines[3][6:] == ["1,", '"x",', "y=null"]
    assert "\x1b" not in done.output
    assert run("jobs", "--oldest-first", "--limit", "1").output.count("\n") == 6
    assert run("jobs", "--queue", "none").output == "No jobs.\n"


def test_every_filter_is_an_option(run, database, connection):
    assert FILTER_OPTIONS.keys() == FILTERS.keys()
    put(database, "a", "b", body=b'[[1], {"y": 2}, {}]', group_id="g", parent_id="p", root_id="r")
    connection.execute(
        "UPDATE pgjobs.jobs SET tags = '{mail,urgent}', meta = '{\"a\": 1}', attempted_by = 'w', "
        "attempt = 2, inserted_at = now() - interval '90 minutes', finished_at = now(), "
        "state = 'completed' WHERE task_id = 'a'"
    )
    for options in (
        ("--id", "a", "--id", "none"), ("--state", "completed", "--state", "discarded"),
        ("--tag", "mail", "--tag", "Urgent"), ("--meta", '{"a": 1}'), ("--attempt", "2"),
        ("--attempt", "1-"), ("--attempt", "1-2"), ("--older-than", "1h"),
        ("--newer-than", "2h", "--attempt", "2"), ("--finished-after", "1.5m"), ("--worker", "w"),
        ("--args", "[1]", "--kwargs", '{"y": 2}', "--older-than", "5400"),
        ("--group", "g", "--parent", "p", "--root", "r", "--task", "tasks.add", "--worker", "w"),
    ):  # fmt: skip
        done = run("jobs", "--json", *options)
        assert done.exit_code == 0, done.output
        assert [job["task_id"] for job in json.loads(done.output)] == ["a"], options
    assert json.loads(run("jobs", "--json", "--finished-before", "1w").output) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--older-than", "2 days"), "write 90, 15m, 2h or 3d"),
        (("--kwargs", "{user: 7}"), "is no JSON"),
        (("--kwargs", "[7]"), "kwargs must be a dict"),
        (("--attempt", "many"), "write 3, 2-5 or 2-"),
        (("--state", "waiting"), "is not one of"),
        (("--tag", " "), "a tag must not be empty"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(run, options, complaint):
    done = run("jobs", *options)
    assert done.exit_code in (1, 2)
    assert complaint in done.output


def test_show_says_all_that_is_known_of_a_job(run, database, connection):
    put(database, "a", body=b'[[1], {"y": 2}, {}]')
    alive(database, A)
    ((claim,), _) = database.jobs.claim_jobs(A, "celery@web1", [Bucket("celery")], 1)
    error = error_entry("KeyError", "'x'", "Traceback:\n  here\nKeyError: 'x'\x1b[31m", "builtins")
    database.jobs.settle_jobs(A, [discarded(claim.id, claim.attempt, error)])
    lines = run("show", "a").output.splitlines()
    shown = dict(line.split(None, 1) for line in lines[: lines.index("")])
    assert (shown["state"], shown["attempted_by"]) == ("discarded", "celery@web1")
    assert json.loads(shown["kwargs"]) == {"y": 2}
    assert lines[-4].startswith("attempt 1 at 20")
    assert lines[-4].endswith(": builtins.KeyError")
    assert lines[-3:] == ["  Traceback:", "    here", "  KeyError: 'x'\ufffd[31m"]
    connection.execute("UPDATE pgjobs.jobs SET result = '[7]', result_type = 'application/json'")
    data = json.loads(run("show", "a", "--json").output)
    assert (data["result"], data["errors"][0]["type"]) == ([7], "KeyError")
    connection.execute("UPDATE pgjobs.jobs SET children = 'by hand'")
    assert json.loads(run("show", "a", "--json").output)["children"] == "by hand"
    done = run("show", "none")
    assert (done.exit_code, done.output) == (1, "Error: there is no job 'none'\n")


def test_named_jobs_are_changed_without_a_question(run, database, connection):
    put(database, "a", "b", "c")
    done = run("cancel", "a", "--reason", "why")
    assert (done.exit_code, done.output) == (0, "1 job cancelled, or told to stop\n")
    assert row(connection, "a")["cancel_reason"] == "why"
    done = run("cancel", "a", "b", "none")
    assert done.exit_code == 1
    assert "1 job cancelled" in done.output
    assert "Not changed: a: it is cancelled\n" in done.output
    assert "Not changed: none: there is no such job" in done.output
    assert states(connection) == {"a": "cancelled", "b": "cancelled", "c": "available"}
    done = run("retry", "a", "b", "--json")
    assert json.loads(done.output) == {"count": 2, "ids": ["a", "b"]}


@pytest.mark.parametrize(
    ("command", "change"),
    [
        (("reschedule", "--in", "2h"), {"state": "scheduled"}),
        (("reschedule", "--at", "2100-01-01T00:00Z"), {"state": "scheduled"}),
        (("prioritize", "--to", "7"), {"priority": 7}),
        (("move", "--to", "mail"), {"queue": "mail"}),
        (("cancel", "--terminate"), {"state": "cancelled"}),
    ],
)
def test_each_command_does_what_it_says(run, database, connection, command, change):
    put(database, "a", "b")
    done = run(*command, "--id", "a", "--yes")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("1 job ")
    changed = row(connection, "a")
    assert {name: changed[name] for name in change} == change
    assert row(connection, "b")["state"] == "available"
    assert run("delete", "--id", "a", "-y").output == "1 job deleted\n"
    assert states(connection) == {"b": "available"}


def test_a_bulk_action_without_a_terminal_needs_yes(run, database, connection):
    put(database, "a", "b")
    done = run("delete", "--queue", "celery")
    assert done.exit_code == 1
    assert done.output == (
        "Error: this would delete 2 jobs, and there is no terminal to ask: give --yes\n"
    )
    assert run("delete", "--queue", "celery", "--yes").output == "2 jobs deleted\n"
    assert run("delete", "--queue", "celery").output == "0 jobs deleted\n"


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_asks_with_the_number_of_jobs(run, database, connection):
    put(database, "a", "b")
    done = run("cancel", "--queue", "celery", input="n\n")
    assert done.exit_code == 1
    assert "Cancel 2 jobs? [y/N]" in done.output
    assert set(states(connection).values()) == {"available"}
    assert run("cancel", "--queue", "celery", input="y\n").exit_code == 0
    assert set(states(connection).values()) == {"cancelled"}


def test_without_a_filter_it_takes_all_to_mean_every_job(run, database, connection):
    put(database, "a")
    done = run("delete", "--yes")
    assert done.exit_code == 2
    assert "give --all for every job" in done.output
    assert run("delete", "--all", "--yes").output == "1 job deleted\n"


def test_reschedule_needs_one_time_that_can_be_read(run, database):
    put(database, "a")
    for options in ((), ("--in", "1h", "--at", "2100-01-01")):
        assert "say when" in run("reschedule", "a", *options).output
    assert "'soon' is no time" in run("reschedule", "a", "--at", "soon").output
    assert "priority must be 0 to 255" in run("prioritize", "a", "--to", "256").output


def test_a_database_that_is_not_there_is_one_line():
    url = "pgjobs://app:t0p-s3cret@127.0.0.1:1/app"
    done = CliRunner().invoke(celery, ["pgjobs", "jobs", "--url", url])
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert done.output.startswith("Error: ")
    assert "t0p-s3cret" not in done.output
