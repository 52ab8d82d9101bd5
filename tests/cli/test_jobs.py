"""``celery pgjobs jobs``, ``show``, ``cancel``, ...: the commands on jobs, in this process."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import psycopg
import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from pgjobs_celery.cli import jobs as cli_jobs
from pgjobs_celery.cli.filters import FILTER_OPTIONS
from pgjobs_celery.control.filters import FILTERS
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.db.rows.filtered import Matches
from pgjobs_celery.job.outcome import discarded, error_entry, snoozed
from pgjobs_celery.job.rows import Bucket, Fence
from pgjobs_celery.job.states import State
from pgjobs_celery.job.steps import Kind, Memory, Wait
from tests.db.test_matches import A
from tests.support.rows import alive, put, row, states

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
    assert lines[2][:5] == ["b", "scheduled", "[bold]mail", "evil\ufffd[31m", "0"]
    assert lines[3][:5] == ["a", "available", "celery", "tasks.add", "0"]
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
        "state = 'completed', priority = 256, lane = E'rate/task/x=7\\nshare=8' WHERE task_id = 'a'"
    )
    for options in (
        ("--id", "a", "--id", "none"), ("--state", "completed", "--state", "discarded"),
        ("--tag", "mail", "--tag", "Urgent"), ("--meta", '{"a": 1}'), ("--attempt", "2"),
        ("--attempt", "1-"), ("--attempt", "1-2"), ("--older-than", "1h"),
        ("--newer-than", "2h", "--attempt", "2"), ("--finished-after", "1.5m"), ("--worker", "w"),
        ("--args", "[1]", "--kwargs", '{"y": 2}', "--older-than", "5400"),
        ("--lane", "rate/task/x", "--key", "7"), ("--key", "8", "--lane", "share=8"),
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
        (("--kwargs", "{user: 7}"), "is not JSON"),
        (("--kwargs", "[7]"), "kwargs must be a dict"),
        (("--attempt", "many"), "write 3, 1,4, 2-5 or 2-"),
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
    ((claim,), _) = database.claims.claim_jobs(A, "celery@web1", [Bucket("celery")], 1)
    error = error_entry("KeyError", "'x'", "Traceback:\n  here\nKeyError: 'x'\x1b[31m", "builtins")
    database.claims.settle_jobs(A, [discarded(claim, error)])
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
    assert "'soon' is not a time" in run("reschedule", "a", "--at", "soon").output
    assert "priority must be 0 to 255" in run("prioritize", "a", "--to", "256").output


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("reschedule", "--at", "foo"), "'foo' is not a time"),
        (("reschedule",), "say when"),
        (("reschedule", "--in", "999999999999w"), "countdown must be between"),
        (("prioritize", "--to", "999"), "priority must be 0 to 255"),
        (("move", "--to", ""), "queue must have 1 to"),
        (("cancel", "--terminate", "--signal", "SIGNONE"), "signal must be one"),
    ],
)
@pytest.mark.parametrize("there_is_one", [False, True])
def test_options_are_checked_whether_a_job_is_meant_or_not(
    run, database, connection, command, complaint, there_is_one
):
    put(database, "a", task="x" if there_is_one else "y")
    done = run(*command, "--task", "x", "--yes")
    assert done.exit_code in (1, 2), done.output
    assert complaint in done.output
    assert states(connection) == {"a": "available"}


def test_a_database_that_is_not_there_is_one_line():
    url = "pgjobs://app:t0p-s3cret@127.0.0.1:1/app"
    done = CliRunner().invoke(celery, ["pgjobs", "jobs", "--url", url])
    assert done.exit_code == 1
    assert len(done.output.splitlines()) == 1
    assert done.output.startswith("Error: ")
    assert "t0p-s3cret" not in done.output


PLAIN = '{"headers": {"retries": 2}, "content-type": "application/json"}'
OWN = '{"headers": {"retries": 1, "pgjobs": {"max_attempts": 5}}}'


def test_attempts_and_retries_are_shown_apart(run, database, connection):
    put(database, "plain", message=PLAIN)
    put(database, "own", message=OWN, max_attempts=5)
    put(database, "lost")
    connection.execute("UPDATE pgjobs.jobs SET attempt = 3")
    lines = [line.split() for line in run("jobs").output.splitlines() if line.strip()]
    assert lines[0][4:6] == ["attempt", "retries"]
    assert {line[0]: line[4:6] for line in lines[2:]} == {
        "plain": ["3", "2"], "own": ["3/5", "1"], "lost": ["3", "0"],
    }  # fmt: skip
    found = {job["task_id"]: job for job in json.loads(run("jobs", "--json").output)}
    assert (found["own"]["has_own_limit"], found["own"]["retries"]) == (True, 1)
    assert (found["plain"]["has_own_limit"], found["plain"]["retries"]) == (False, 2)
    assert "deliveries, its 2 retries included" in run("show", "plain").output
    assert "deliveries" not in run("show", "own").output


def test_show_prints_a_traceback_once(run, database, connection):
    put(database, "a")
    connection.execute(
        "UPDATE pgjobs.jobs SET state = 'discarded', finished_at = now(), traceback = %s,"
        " errors = %s",
        [
            "Traceback:\n  in a_place\n",
            json.dumps([{"attempt": 1, "type": "E", "traceback": "Traceback:\n  in a_place"}]),
        ],
    )
    assert run("show", "a").output.count("a_place") == 1
    connection.execute("UPDATE pgjobs.jobs SET errors = '[]'")
    assert run("show", "a").output.count("a_place") == 1


def test_a_result_without_a_queue_is_no_riddle(run, database, connection):
    put(database, "a")
    connection.execute("UPDATE pgjobs.jobs SET queue = '', message = NULL, body = NULL")
    line = next(line for line in run("jobs").output.splitlines() if line.startswith("  a "))
    assert line.split()[2] == line.split()[-1] == "-"
    assert "(no queue)" in run("status").output


def test_the_beginning_of_an_id_will_do(run, database, connection):
    put(database, "abc-1", "abc-2", "abd-%_1", "x")
    assert "abd-%_1" in run("show", "abd").output
    done = run("show", "ab")
    assert done.exit_code == 1
    assert "'ab' is the beginning of several ids: abc-1, abc-2, abd-%_1" in done.output
    assert run("show", "%").exit_code == 1
    put(database, "abc")
    assert run("cancel", "abc", "abd-").output == "2 jobs cancelled, or told to stop\n"
    assert {task_id for task_id, state in states(connection).items() if state == "cancelled"} == {
        "abc", "abd-%_1",
    }  # fmt: skip
    assert json.loads(run("retry", "abd", "--json").output) == {"count": 1, "ids": ["abd-%_1"]}
    assert run("delete", "nothing").exit_code == 1


def test_a_table_too_large_to_be_searched_is_given_up(run, database, connection, url, monkeypatch):
    put(database, "abc-1")
    find, seen = Matches.find_ids, []

    def find_slowly(self, *given):
        with psycopg.connect(parse_url(url)) as other:
            other.execute("LOCK TABLE pgjobs.jobs")
            try:
                return find(self, *given)
            finally:
                seen.append(True)

    monkeypatch.setattr(Matches, "find_ids", find_slowly)
    monkeypatch.setattr(cli_jobs, "SEARCH_SECONDS", 0.3)
    done = run("cancel", "abc")
    assert seen
    assert done.exit_code == 1
    assert "there is no job 'abc'" in done.output
    assert "0.3 s: give the id in full" in done.output
    assert "1 job cancelled" in run("cancel", "abc-1").output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PENDING", {"available", "scheduled"}),
        ("SUCCESS", {"completed"}),
        ("FAILURE", {"discarded"}),
        ("REVOKED", {"cancelled"}),
        ("STARTED", {"executing"}),
        ("RETRY", {"retryable"}),
    ],
)
def test_states_have_celerys_names_too(run, database, connection, name, expected):
    put(database, *(state for state in State))
    for state in State:
        finished = "now()" if state.is_final else "NULL"
        due = "now()" if state in (State.SCHEDULED, State.RETRYABLE) else "NULL"
        claimed = f"'{A}'" if state is State.EXECUTING else "NULL"
        connection.execute(
            f"UPDATE pgjobs.jobs SET state = task_id, finished_at = {finished}, due_at = {due},"
            f" claimed_by = {claimed}, attempt = 1, attempted_at = now() WHERE task_id = '{state}'"
        )
    found = json.loads(run("jobs", "--json", "--state", name).output)
    assert {job["task_id"] for job in found} == expected
    both = json.loads(run("jobs", "--json", "--state", name, "--state", "completed").output)
    assert {job["task_id"] for job in both} == expected | {"completed"}


def test_a_task_that_is_not_known_is_named_with_the_one_that_is_meant(run, database):
    put(database, "a", task="shop.boom")
    hint = "No task 'boom' is known here; did you mean 'shop.boom'?"
    assert run("jobs", "--task", "boom").output == f"No jobs. {hint}\n"
    done = run("cancel", "--task", "boom", "--yes")
    assert (done.exit_code, hint in done.output) == (0, True)
    assert "shop.boom" in run("jobs", "--task", "shop.bom").output
    assert run("jobs", "--task", "shop.boom", "--queue", "none").output == "No jobs.\n"


def test_explain_says_why_a_job_does_not_run(run, database, connection):
    put(database, "a-long-id", eta=60)
    done = run("explain", "a-l")
    assert done.exit_code == 0, done.output
    text, remedy = done.output.splitlines()
    assert text.startswith("It waits for its time: it is due at 20")
    assert remedy == "Try: celery -A proj pgjobs reschedule a-long-id --in 0"
    data = json.loads(run("explain", "a-long-id", "--json").output)
    assert data["kind"] == "not_due"
    assert data["text"][:20] == text[:20]
    assert data["details"]["queue"] == "celery"
    assert data["remedy"] == remedy.removeprefix("Try: ")
    done = run("explain", "none")
    assert (done.exit_code, done.output) == (1, "Error: there is no job 'none'\n")


def test_explain_shows_only_what_is_printable(run, database, connection):
    put(database, "a", queue="mail\x1b[31m\u202e; rm -rf /", task="evil\x1b[2J")
    done = run("explain", "a")
    assert done.exit_code == 0, done.output
    assert all(line.isprintable() for line in done.output.splitlines())
    assert done.output.splitlines()[1].endswith("-Q 'mail\ufffd[31m\ufffd; rm -rf /'")
    assert json.loads(run("explain", "a", "--json").output)["details"]["task"] == "evil\x1b[2J"


def test_a_remedy_removes_what_was_explained(run, database, connection):
    """As it is printed, but for where the database is."""
    alive(database, A)
    connection.execute("UPDATE pgjobs.nodes SET queues = '{celery,my mail}'")
    put(database, "busy")
    database.claims.claim_jobs(A, "celery@web1", [Bucket("celery")], 1)
    put(database, "later", eta=3600)
    put(database, "gone")
    put(database, "held", queue="my mail")
    run("cancel", "gone")
    run("pause", "my mail")
    database.jobs.forbid_jobs(["never"])
    seen = []
    for id in ("later", "gone", "held", "never", "limited"):
        if id == "limited":
            put(database, id)
            run("limit", "celery", "1")
        before = json.loads(run("explain", id, "--json").output)
        words = shlex.split(before["remedy"])
        assert words[:4] == ["celery", "-A", "proj", "pgjobs"]
        done = run(*words[4:], *(["--yes"] if words[4] == "delete" else []))
        assert done.exit_code == 0, done.output
        after = run("explain", id, "--json")
        kind = json.loads(after.output)["kind"] if after.exit_code == 0 else "none"
        seen.append((before["kind"], kind))
    assert seen == [
        ("not_due", "about_to_begin"),
        ("cancelled", "in_line"),
        ("queue_paused", "about_to_begin"),
        ("revoked_before_publishing", "none"),
        ("limit_full", "in_line"),
    ]


def test_a_signal_is_sent_by_command(run, database):
    put(database, "a")
    done = run("signal", "a", "approved", "--payload", '{"by": "alice"}')
    assert (done.exit_code, done.output) == (0, "Signal approved was sent to a.\n")
    assert run("signal", "a", "approved", "--first").exit_code == 1
    assert json.loads(run("signal", "--key", "order-7", "paid", "--json").output) == {"sent": True}
    assert "--payload must be JSON" in run("signal", "a", "x", "--payload", "alice").output
    assert [entry.action for entry in database.audit.list_actions(limit=9)] == ["signal_job"] * 2


def test_steps_are_shown_with_what_the_job_waits_for(run, database):
    put(database, "a")
    alive(database, A)
    (claim,), _ = database.claims.claim_jobs(A, "n", [Bucket("celery")], 1)
    fence = Fence(A, claim.attempt)
    for name, value in (("charge", b'{"id": 7}'), ("evil\x1b[31m", b"\x80")):
        kind = "application/json" if value[:1] == b"{" else "application/x-python-serialize"
        database.steps.record_step(claim.id, fence, name, Memory(Kind.STEP, value, kind))
    database.steps.pass_wait(claim.id, fence, Wait("approved", "approved"))
    database.claims.settle_jobs(A, [snoozed(claim, 3600.0)])
    shown = json.loads(run("show", "a", "--json").output)
    assert [(step["name"], step["value"]) for step in shown["steps"]] == [
        ("charge", {"id": 7}),
        ("evil\x1b[31m", "1 bytes"),
    ]
    assert shown["waits_for"]["signal"] == "approved"
    assert "\x1b" not in run("show", "a").output
    assert run("retry", "a", "--forget-steps").exit_code == 0
    assert "steps" not in json.loads(run("show", "a", "--json").output)
