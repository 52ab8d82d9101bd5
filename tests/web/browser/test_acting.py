"""Whatever the page offers to do is done: by mouse, by keyboard alone, and without script."""

from __future__ import annotations

from random import randint
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import scalar_row

from pgjobs_celery import schedules
from pgjobs_celery.db.dsn import parse_url
from pgjobs_celery.web.pages import ROUTES
from pgjobs_celery.web.routes import Act
from tests.support.waiting import wait_for

from ..fleet import tasks
from ..fleet.filling import Fleet
from .conftest import OpenTab, tab_to


class Deed(NamedTuple):
    """What a visitor does."""

    #: The name of the action's route, and the page that offers it.
    name: str
    page: str
    #: What is pressed, and what is filled in: ``selector=text``.
    steps: tuple[str, ...]
    #: As the audit has it, if that is not the name of the action.
    recorded: str = ""


YES = "#confirm-yes"
TICK = "tbody tr:first-child input[type=checkbox]"
ASK = "form.ask button"
JOB = "/job?id="
PROBLEM = "/failures/problem?fingerprint={problem}"
FAILED = "/jobs?q=state:discarded+task:search.index"
ENTRY = "/schedule?name=reindex"
QUEUE = "/queue?name=rules"
RULES = "summary:text-is('Change the rules')"
WAITING = "/jobs?q=queue:images+state:available"


def menu(name: str, *steps: str) -> tuple[str, ...]:
    """What stands in a form that folds out."""
    return (f"summary:text-is('{name}')", *steps)


DEEDS = [
    Deed("pause_queue", "/queues?q=search", ("main button:text-is('Pause')",)),
    Deed("resume_queue", "/queues?q=search", ("main button:text-is('Resume')",)),
    Deed("limit_queue", "/queue?name=search", ("#concurrency := {number}", "text=Set limit")),
    Deed("queue_rate", QUEUE, (RULES, "#rule-rate := 9000/s", "text=Set rate"), "set_flow"),
    Deed("queue_running", QUEUE, (RULES, "#rule-running := 90", "#rule-running-by := args.0",
         "text=Set limit by key"), "set_flow"),
    Deed("share_queue", QUEUE, (RULES, "text=Set shares",)),
    Deed("weigh_key", QUEUE, (RULES, "#rule-key := 7", "#rule-weight := 3", "text=Set weight")),
    Deed("bound_queue", QUEUE, (RULES, "text=Set depth",)),
    Deed("pause_jobs", QUEUE, (RULES, "#rule-pause := nobody", "text=Pause these")),
    Deed("resume_jobs", QUEUE, ("text=Resume key",)),
    Deed("reset_queue", QUEUE, (RULES, "text=Reset to the rules",)),
    Deed("job_retry", JOB + "{failed}", ("main button:text-is('Retry')",), "retry_jobs"),
    Deed("job_reschedule", JOB + "{scheduled}", menu("Edit time", "[name=when]:visible := 3h",
         "details[open] button"), "reschedule_jobs"),
    Deed("job_prioritize", JOB + "{waiting}", menu("Priority", "[name=priority] := 7",
         "details[open] button"), "prioritize_jobs"),
    Deed("job_move", JOB + "{waiting}", menu("Move", "[name=queue] := elsewhere",
         "details[open] button"), "move_jobs"),
    Deed("job_signal", JOB + "{stepping}", menu("Signal", "details[open] [name=name] := approved",
         "details[open] button"), "signal_job"),
    Deed("job_cancel", JOB + "{waiting}", menu("Cancel", "details[open] [name=reason] := a mistake",
         "details[open] button"), "cancel_jobs"),
    Deed("job_terminate", JOB + "{running}", menu("Cancel and terminate", "details[open] button",
         YES), "cancel_jobs"),
    Deed("job_delete", JOB + "{failed}", ("main button:text-is('Delete')", YES), "delete_jobs"),
    Deed("retry_jobs", PROBLEM, (".acts button:has-text('Retry')", ASK)),
    Deed("delete_jobs", PROBLEM, (".acts button:has-text('Delete')", ASK)),
    Deed("retry_jobs", FAILED, (TICK, "button:text-is('Retry')")),
    Deed("cancel_jobs", WAITING, (TICK, "button:text-is('Cancel')")),
    Deed("reschedule_jobs", "/jobs?q=state:scheduled", (TICK, "button:text-is('Run now')")),
    Deed("prioritize_jobs", WAITING, (TICK, "button:text-is('Priority…')", "[name=priority] := 9",
         ASK)),
    Deed("move_jobs", WAITING, (TICK, "button:text-is('Queue…')", "[name=queue] := elsewhere",
         ASK)),
    Deed("delete_jobs", FAILED, (TICK, "button:text-is('Delete…')", ASK)),
    Deed("publish_jobs", "/jobs/new", ("#n-task := orders.check", "#n-args := [1]",
         "main button:text-is('Publish')")),
    Deed("run_schedule", ENTRY, ("main button:text-is('Run now')",)),
    Deed("pause_schedule", ENTRY, ("main button:text-is('Pause')",)),
    Deed("resume_schedule", ENTRY, ("main button:text-is('Resume')",)),
    Deed("put_schedule", "/schedules/new", ("#f-name := entry {number}", "#f-task := orders.check",
         "#f-when := 5 4 * * *", "#f-args := [1]", "main button:text-is('Add')"), "add_schedule"),
    Deed("delete_schedule", "/schedule?name={entry}", ("main button:text-is('Delete')", YES)),
    Deed("ping_worker", "/workers", ("main button:text-is('Ping')",)),
]  # fmt: skip

#: What changes nothing.
UNRECORDED = {"ping_worker"}

#: What an operation on its way is needed for, or a pool that grows; and the last test.
ELSEWHERE = {"stop_operation", "resume_operation", "undo_operation", "resize_worker",
             "shutdown_worker"}  # fmt: skip


class Rows:
    """The jobs to act on, and what was recorded."""

    def __init__(self, fleet: Fleet, connection: psycopg.Connection[Any]) -> None:
        self._fleet = fleet
        self._connection = connection
        self._since = self.one("SELECT coalesce(max(id), 0) FROM pgjobs.audit")

    def one(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query.encode(), values).fetchone()

    def fill(self, page: str) -> str:
        """The address, with jobs of their own where it names some."""
        if "{waiting}" in page or page == WAITING:
            waiting = tasks.resize.delay("upload/1.jpg", [320]).id
            return page.format(waiting=waiting)
        if "{stepping}" in page:
            stepping = tasks.resize.delay("upload/1.jpg", [320]).id
            self._connection.execute(
                "INSERT INTO pgjobs.steps (job, name, attempt) "
                "SELECT id, 'charge', 1 FROM pgjobs.jobs WHERE task_id = %s",
                [stepping],
            )
            return page.format(stepping=stepping)
        if "scheduled" in page:
            later = tasks.index.apply_async(({"id": 1, "title": "x"},), countdown=7200).id
            return page.format(scheduled=later)
        if "{failed}" in page or "{problem}" in page or "discarded" in page:
            failed = tasks.index.delay({"id": 404}).id
            query = "SELECT fingerprint FROM pgjobs.jobs WHERE task_id = %s AND state = 'discarded'"
            problem = wait_for(lambda: self.one(query, failed))
            return page.format(failed=failed, problem=problem)
        if "{entry}" in page:
            schedules(self._fleet.app).put("short lived", "orders.check", 3600, (1,))
            return page.format(entry="short+lived")
        return page.format(running=self._fleet.ids["running"])

    def is_recorded(self, action: str) -> bool:
        """True once the audit has it, done by alice through the page."""
        query = (
            "SELECT count(*) FROM pgjobs.audit WHERE id > %s AND action = %s "
            "AND actor = 'alice' AND via = 'web'"
        )
        return bool(self.one(query, self._since, action))


@pytest.fixture
def rows(fleet: Fleet) -> Any:
    with psycopg.connect(
        parse_url(fleet.url), autocommit=True, row_factory=scalar_row
    ) as connection:
        yield Rows(fleet, connection)


def by_mouse(tab: Any, step: str) -> None:
    """Click what the step names; fill it in where it says what with."""
    selector, _, text = step.partition(" := ")
    if text:
        tab.locator(selector).first.fill(text)
    else:
        tab.locator(selector).first.click()


def by_keyboard(tab: Any, step: str) -> None:
    """The same by Tab, Enter, the space bar and letters."""
    selector, _, text = step.partition(" := ")
    tab_to(tab, selector)
    if text:
        tab.keyboard.press("ControlOrMeta+a")
        tab.keyboard.type(text)
    else:
        tab.keyboard.press("Space" if "checkbox" in selector else "Enter")


@pytest.mark.parametrize("deed", DEEDS, ids=[deed.name for deed in DEEDS])
@pytest.mark.parametrize("way", [by_mouse, by_keyboard], ids=["mouse", "keyboard"])
def test_an_action_is_done_and_recorded(deed: Deed, way: Any, open_tab: OpenTab, rows: Rows):
    # What acted on it may be gone, and its page with it.
    tab = open_tab(rows.fill(deed.page), may_be_gone="delete" in deed.name or "retry" in deed.name)
    for step in deed.steps:
        way(tab, step.replace("{number}", str(randint(2, 10_000))))
    tab.locator(".notice:visible, #operation").first.wait_for()
    assert tab.locator(".notice.bad:visible").all_inner_texts() == []
    if deed.name not in UNRECORDED:
        wait_for(lambda: rows.is_recorded(deed.recorded or deed.name))


def test_an_action_needs_no_script(open_tab: OpenTab, rows: Rows):
    tab = open_tab(rows.fill("/job?id={waiting}"), script=False)
    for step in menu("Priority", "[name=priority] := 4", "details[open] button"):
        by_mouse(tab, step)
    assert "1 job" in tab.locator(".notice:visible").inner_text()
    assert rows.is_recorded("prioritize_jobs")


def test_a_viewer_sees_what_may_not_be_done_and_who_may(open_tab: OpenTab, fleet: Fleet):
    tab = open_tab(f"/job?id={fleet.ids['waiting']}", role="viewer")
    delete = tab.locator("main button:text-is('Delete')")
    assert delete.is_disabled()
    assert "admin" in delete.get_attribute("title")


def test_each_action_of_the_page_is_tried_here():
    offered = {route.name or route.permission for route in ROUTES if isinstance(route, Act)}
    assert {deed.name for deed in DEEDS} == offered - ELSEWHERE


def test_keys_move_select_open_and_search(open_tab: OpenTab):
    tab = open_tab("/jobs?q=task:mail.send")
    keys = tab.keyboard
    for key in ("j", "j", "x", "k", "j", "j"):
        keys.press(key)
    ticked = tab.locator("tbody input:checked")
    assert ticked.count() == 1
    assert tab.locator("tr:has(input:checked)").evaluate("row => row.rowIndex") == 2
    assert tab.locator("tr.at").evaluate("row => row.rowIndex") == 3
    keys.press("?")
    assert tab.locator("#help").is_visible()
    keys.press("Escape")
    assert tab.locator("#help").is_hidden()
    keys.press("/")
    keys.press("ControlOrMeta+a")
    keys.type("task:orders.ship")
    keys.press("Enter")
    tab.wait_for_url("**/jobs?q=task%3Aorders.ship*")
    keys.press("j")
    keys.press("Enter")
    tab.wait_for_url("**/job?id=*")
    assert "orders.ship" in tab.locator("h1").inner_text()


def test_a_worker_is_shut_down(open_tab: OpenTab, rows: Rows):
    """Last: the others need it."""
    tab = open_tab("/workers")
    for step in ("main button:text-is('Shut down')", YES):
        by_keyboard(tab, step)
    # It is recorded before it is sent: the browser must not go while it waits for the answer.
    tab.locator("div.notice").wait_for()
    wait_for(lambda: rows.is_recorded("shutdown_worker"))
