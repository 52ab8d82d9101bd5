"""The page Failures: groups, one problem, before and after, and its actions."""

from __future__ import annotations

import html
import re

import pytest

from pgjobs_celery import audit, jobs
from tests.support.failing import ODD, entry, put_failed

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def failed(connection):
    for n in range(60):
        put_failed(connection, f"key {n}", 90 + n, entry("KeyError", f"'{n}'", "charge"))
    put_failed(
        connection, "value", 5, entry("ValueError", f"{SCRIPT} \u202e\x00", "send"),
        task=SCRIPT, queue=SCRIPT, worker=SCRIPT, state="retryable",
    )  # fmt: skip


def problem_of(page, kind: str, more: str = "") -> str:
    found = re.search(rf'href="([^"]*fingerprint={kind}-[0-9a-f]{{10}}{more})"', page.text)
    assert found
    return found[1].replace("&amp;", "&")


@pytest.mark.usefixtures("failed")
def test_failures_that_are_alike_stand_in_one_line(viewer, connection):
    page = viewer.get("/failures")
    assert page.status_code == 200
    assert page.text.count("fingerprint=") == 2
    assert "61 failures of 2 problems" in page.text
    assert SCRIPT not in page.text
    assert "\u202e" not in page.text
    assert "app/tasks.py:3 in charge" in page.text
    assert "celery -A proj pgjobs failures --since 7d" in page.text
    assert "No job stands at a failure of the last hour" not in page.text
    assert viewer.get("/failures?range=day&error=ValueError").text.count("fingerprint=") == 1
    assert viewer.get("/failures?range=month").status_code == 400
    narrow = html.unescape(viewer.get("/failures?task=it's&error=ValueError").text)
    sql = re.search(r"SELECT fingerprint.*?DESC", narrow, re.DOTALL)
    assert connection.execute(sql[0]).fetchall() == []
    whole = html.unescape(viewer.get("/failures?range=all").text)
    sql = re.search(r"SELECT fingerprint.*?DESC", whole, re.DOTALL)
    assert [row["count"] for row in connection.execute(sql[0])] == [1, 60]


@pytest.mark.usefixtures("failed")
def test_a_problem_shows_its_traceback_where_its_jobs_stand_and_the_jobs(viewer):
    address = problem_of(viewer.get("/failures"), "KeyError")
    page = viewer.get(address)
    assert page.status_code == 200
    assert 'class="tb-' in page.text
    assert "Retry 60 jobs" in page.text
    assert page.text.count('scope="row" class="mono"') == 50
    older = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert older
    second = viewer.get(older[1].replace("&amp;", "&"))
    assert second.text.count('scope="row" class="mono"') == 10
    assert "disabled" in page.text
    assert address in viewer.get("/job?id=key+1").text.replace("&amp;", "&")
    odd = viewer.get(problem_of(viewer.get("/failures"), "ValueError"))
    assert odd.status_code == 200
    assert SCRIPT not in odd.text
    assert viewer.get("/failures/problem?fingerprint=gone-1").status_code == 404
    assert viewer.get(f"{address}&before=x/y").status_code == 400


@pytest.mark.usefixtures("failed")
def test_before_and_after_a_deploy(viewer):
    page = viewer.get("/failures?since=30m")
    assert re.search(r"<h2>New .*?>1</span>", page.text)
    assert "ValueError" in page.text
    assert "KeyError" not in page.text
    one = viewer.get(problem_of(page, "ValueError", "&amp;since=30m"))
    assert "0 and 1" in one.text
    assert viewer.get("/failures/problem?fingerprint=x-1&since=never").status_code == 400
    gone = viewer.get("/failures?since=80m")
    assert re.search(r"<h2>Gone .*?>1</span>", gone.text)
    assert viewer.get("/failures?since=tomorrow").status_code == 400
    assert viewer.get("/failures?since=2999-01-01").status_code == 400


@pytest.mark.usefixtures("failed")
def test_a_problem_is_retried_after_a_question_with_its_count(open_page, database):
    address = problem_of(open_page().get("/failures"), "KeyError")
    name = address.partition("fingerprint=")[2]
    operator = open_page(role="operator")
    form = {"all": "1", "q": f"fingerprint:{name} state:discarded,retryable"}
    assert f'name="q" value="{form["q"]}"' in operator.get(address).text
    question = operator.post_form("/jobs/retry", address, **form)
    assert "Retry 60 jobs?" in question.text
    assert jobs(database).filter(state="discarded").count() == 60
    until = re.search(r'name="until" value="(\d+)"', question.text)
    sure = {"sure": "1", "expected": "60", "until": until[1]}
    page = operator.post_form("/jobs/retry", address, **form, **sure)
    assert "60 jobs were put in line again" in page.text
    assert jobs(database).filter(state="available", fingerprint=name).count() == 60
    [record] = audit(database).list()
    assert (record.action, record.jobs, record.via) == ("retry_jobs", 60, "web")
    assert "available</span> 60" in operator.get(address).text


def test_rows_written_by_hand_and_by_older_releases_are_shown_and_acted_on(
    connection, admin, database
):
    for n, errors in enumerate(ODD):
        put_failed(connection, f"odd {n}", n, errors, is_named=False)
    page = admin.get("/failures")
    assert page.status_code == 200
    assert SCRIPT not in page.text
    addresses = {
        a.replace("&amp;", "&") for a in re.findall(r'href="([^"]*/problem\?[^"]*)"', page.text)
    }
    assert len(addresses) > 3
    for address in addresses:
        assert admin.get(address).status_code == 200, address
    form = admin.get(addresses.pop()).text
    ids = set(re.findall(r'name="id" value="([^"]+)"', form))
    done = admin.post_form("/jobs/delete", id=sorted(ids), sure="1")
    assert "deleted" in done.text
    assert jobs(database).filter(id=ids).count() == 0
    assert jobs(database).count() == len(ODD) - len(ids)


def test_without_a_failure_the_page_says_so(viewer):
    assert "No job stands at a failure of the last week" in viewer.get("/failures").text
    assert "Nothing stands at a failure" in viewer.get("/failures?since=1h").text
