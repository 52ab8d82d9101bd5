"""The rules of a queue on its page: shown, changed, refused; recorded as others are."""

from __future__ import annotations

import pytest

from pgjobs_celery.control.flows import Flows
from pgjobs_celery.control.queues import Queues
from pgjobs_celery.job.flow import lane_text
from tests.support.rows import put

PAGE = "/queue?name=mail"


def test_the_rules_of_a_queue_are_changed_and_shown(admin, database):
    for path, fields, told in [
        (
            "rate",
            {"limit": "100/m", "by": "kwargs.tenant_id"},
            "at most 100/m of each value",
        ),
        ("running", {"limit": "2", "by": "kwargs.tenant_id"}, "runs 2 at once of each value"),
        ("share", {"by": "kwargs.tenant_id", "ageing": "2m"}, "--ageing 2m"),
        ("share", {"by": "kwargs.tenant_id"}, "serves the values of kwargs.tenant_id in turn"),
        ("weigh", {"key": "7 <b>", "weight": "3"}, "Key 7 &lt;b&gt; has weight 3"),
        ("bound", {"depth": "9000", "on_full": "wait", "wait": "7s"}, "--wait 7s"),
        ("bound", {"depth": "9000", "on_full": "raise", "wait": "7s"}, "--on-full raise"),
        ("bound", {"depth": "9000", "on_full": "wait"}, "At most 9,000 jobs may wait"),
        ("pause-jobs", {"key": "7 <b>", "until": "2h"}, "Key 7 &lt;b&gt; of queue mail is paused"),
        ("pause", {"until": "2h"}, "Queue mail is paused"),
    ]:
        page = admin.post_form(f"/queues/{path}", PAGE, queue="mail", **fields).text
        assert told in page, page
    page = admin.get(PAGE).text
    for text in ("100/m of each kwargs.tenant_id", "weight of 7 &lt;b&gt;", "9,000, then wait",
                 "paused until", "Resume key"):  # fmt: skip
        assert text in page
    assert Queues(database).get("mail").paused_until is not None
    for path, fields in [
        ("rate", {}), ("running", {}), ("share", {}), ("bound", {}),
        ("weigh", {"key": "7 <b>"}), ("resume-jobs", {"key": "7 <b>"}), ("resume", {}),
    ]:  # fmt: skip
        assert admin.post_form(f"/queues/{path}", PAGE, queue="mail", **fields).status_code == 200
    found = Queues(database).get("mail")
    assert (found.fair_by, found.max_depth, found.is_paused) == (None, None, False)
    assert list(Flows(database)) == []
    assert Flows(database).pauses() == []
    assert Queues(database)["mail"].weights() == {}


def test_a_form_keeps_what_it_has_no_field_for(admin, database):
    flows = Flows(database)
    flows.set("rate/queue/mail", "5/s", algorithm="bucket", scope="worker")
    flows.set("running/queue/mail", 5, by="kwargs.x", scope="worker")
    admin.post_form("/queues/rate", PAGE, queue="mail", limit="9/s")
    admin.post_form("/queues/running", PAGE, queue="mail", limit="9", by="kwargs.x")
    found = {each.name: (each.limit, each.algorithm, each.scope) for each in flows}
    assert found["rate/queue/mail"] == ("9/s", "bucket", "worker")
    assert found["running/queue/mail"][::2] == (9, "worker")


def test_the_forms_show_and_keep_all_that_a_rule_has(admin, database):
    queue = Queues(database)["mail"]
    queue.rate("5/s", burst=20)
    queue.fair("kwargs.x", ageing=90)
    queue.max_depth(7, "wait", 120)
    page = admin.get(PAGE).text
    for text in ("5/s, bursts of 20", "kwargs.x, a rank each 1 min 30 s", "7, then wait for 2 min",
                 'name="ageing" value="90s"', 'name="wait" value="2m"'):  # fmt: skip
        assert text in page, text
    admin.post_form("/queues/share", PAGE, queue="mail", by="kwargs.x", ageing="90s")
    admin.post_form("/queues/bound", PAGE, queue="mail", depth="8", on_full="wait", wait="2m")
    found = Queues(database).get("mail")
    assert (found.ageing, found.max_depth, found.full_wait) == (90.0, 8, 120.0)
    told = admin.post_form("/queues/reset", PAGE, queue="mail").text
    assert "What was set by hand for queue mail is forgotten." in told
    assert (Queues(database).get("mail").fair_by, list(Flows(database))) == (None, [])


def test_the_keys_that_wait_are_shown(viewer, database, connection):
    Flows(database).set("rate/queue/mail", "5/m", by="kwargs.id")
    put(database, "a", "b", queue="mail")
    lane = lane_text(["rate/queue/mail=<7>"])
    connection.execute("UPDATE pgjobs.jobs SET lane = %s, priority = priority | 256", (lane,))
    connection.execute(
        "INSERT INTO pgjobs.lanes (queue, lane, pass, gates) VALUES ('mail', %s, 0, %s)",
        (lane, [lane]),
    )
    page = viewer.get(PAGE).text
    assert "<bdi>&lt;7&gt;</bdi>" in page
    assert "a is operator" not in page


@pytest.mark.parametrize(
    ("path", "fields", "why"),
    [
        ("rate", {"limit": "fast"}, "a rate is written"),
        ("rate", {"limit": "5/m", "burst": "x"}, "burst must be a whole number"),
        ("running", {"limit": "2"}, "needs an argument"),
        ("share", {"by": "a b"}, "by an argument is written"),
        ("weigh", {"key": "7", "weight": "heavy"}, "a weight is a number"),
        ("weigh", {"weight": "3"}, "a key cannot be"),
        ("bound", {"depth": "-1"}, "depth must be a whole number"),
        ("bound", {"depth": "1", "on_full": "burn"}, "on_full cannot be"),
        ("pause-jobs", {"key": ""}, "a key cannot be"),
        ("pause-jobs", {"key": "7"}, "queue 'mail' has no keys"),
        ("pause-jobs", {"key": "7"}, "pgjobs queues fair mail kwargs.tenant_id"),
        ("pause-jobs", {"key": "7", "kind": "host"}, "a pause is of a task"),
        ("pause-jobs", {"key": "7", "until": "soon"}, "is not a duration"),
    ],
)
def test_what_has_no_meaning_is_refused(admin, database, path, fields, why):
    page = admin.post_form(f"/queues/{path}", PAGE, queue="mail", **fields)
    assert page.status_code == 400
    assert why in page.text.replace("&#39;", "'").replace("&#34;", '"')
    assert list(database.audit.list_actions(limit=None)) == []
