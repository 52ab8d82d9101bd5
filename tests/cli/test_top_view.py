"""What ``top`` shows and what keys do to it: values in, lines out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest
from rich.cells import cell_len
from rich.console import Console

from pgjobs_celery.cli.terminal import read_keys
from pgjobs_celery.cli.top_screen import draw
from pgjobs_celery.cli.top_view import Action, View, brief, per_second, share, state_of, window
from pgjobs_celery.control.overview import Failure, Overview, QueueNow
from pgjobs_celery.control.workers import HeldJob, Worker

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=timezone.utc)
HOSTILE = "w\x1b[2J\n\u202e'\";--\u8a9e"


def queue(name: str, **fields: object) -> QueueNow:
    return replace(QueueNow(name, consumers=1), **fields)  # type: ignore[arg-type]


def worker(number: int, lease_left: float = 12.0) -> Worker:
    job = HeldJob(HOSTILE, f"tasks.{HOSTILE}", "mail", 1, NOW, 12.5)
    return Worker(
        f"w{number}@{HOSTILE}", str(number), lease_left, 13.0, NOW, NOW, 60.0, ("mail",), (job,),
        pool="threads", slots=4, version="0.1.0",
    )  # fmt: skip


def many(queues: int, workers: int, failures: int) -> Overview:
    return Overview(
        tuple(queue(f"q{n}{HOSTILE}", ready=n, rate_in=n / 3) for n in range(queues)),
        tuple(worker(n, lease_left=n - 1.0) for n in range(workers)),
        tuple(
            Failure(HOSTILE, HOSTILE, HOSTILE, None, 3.0, f"KeyError: {HOSTILE} {n}")
            for n in range(failures)
        ),
    )


MAIL = Overview((queue("celery"), queue("mail", ready=9), queue("reports", ready=3, paused_at=NOW)))


def view(*keys: str, overview: Overview = MAIL) -> View:
    found = View(overview=overview)
    for key in keys:
        found.press(key)
    return found


def names(found: View) -> list[str]:
    return [each.name for each in found.queues()]


@pytest.mark.parametrize("size", [(200, 50), (80, 24), (120, 14), (60, 13), (40, 9), (20, 5)])
@pytest.mark.parametrize("rows", [(0, 0, 0), (1, 1, 1), (3, 40, 2), (500, 3, 50), (500, 40, 0)])
@pytest.mark.parametrize("trouble", ["", HOSTILE])
def test_a_screen_has_its_size_and_nothing_that_a_terminal_obeys(
    size: tuple[int, int], rows: tuple[int, int, int], trouble: str
) -> None:
    width, height = size
    found = view("j", "j", "j", overview=many(*rows))
    console = Console(width=width, height=height, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(draw(found, (HOSTILE * 9, " 10:00 "), trouble, width, height))
    lines = capture.get().removesuffix("\n").split("\n")
    assert len(lines) == height
    for each in lines:
        assert each.isprintable()
        assert cell_len(each) <= width
    assert lines[-1].startswith("q quit")


def test_queues_are_sorted_by_the_column_that_is_chosen() -> None:
    found = view(overview=many(3, 0, 0))
    assert [each.ready for each in found.queues()] == [2, 1, 0]
    for _ in range(5):
        found.press("s")
    assert found.sort == "name"
    assert [each.ready for each in found.queues()] == [0, 1, 2]
    found.press("s")
    assert found.sort == "ready"


def test_a_filter_is_typed_kept_and_taken_back() -> None:
    found = view("/", *"MAX", "backspace", "q")
    assert (found.filter, names(found)) == ("MAq", [])
    found.press("backspace")
    found.press("enter")
    assert names(found) == ["mail"]
    found.press("escape")
    assert len(names(found)) == 3


def test_a_queue_is_selected_by_its_name_whatever_its_place() -> None:
    found = view("down")
    assert found.selected == "mail"
    found.overview = Overview((queue("celery", ready=99), queue("mail", ready=9)))
    found.press("up")
    assert found.selected == "celery"
    found.press("up")
    assert found.selected == "celery"
    found.press("end")
    assert found.selected == "mail"


def test_a_pause_is_asked_for_before_it_is_made() -> None:
    assert view("p").prompt() == "Select a queue first: up and down"
    found = view("down", "p")
    assert found.prompt().startswith("Pause mail, on all workers?")
    assert found.press("n") is None
    assert found.press("p") is None
    assert found.press("y") == Action("pause", "mail")
    assert found.press("r") == Action("resume", "mail")
    found.press("down")
    found.press("p")
    assert found.prompt() == "reports is paused already"
    found.press("j")
    assert found.prompt().startswith("q quit")


def test_keys_that_say_more_than_a_view_can_do() -> None:
    assert view().press("q") == Action("quit")
    assert view().press(" ") == Action("look")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("jq", ["j", "q"]),
        ("\x1b[A\x1bOB\x1b[5~", ["up", "down", "page up"]),
        ("\x1b", ["escape"]),
        ("\r\x7f\x00\x02", ["enter", "backspace"]),
        ("\x1b[1;5C\x1b[200~é", ["é"]),
    ],
)
def test_keys_are_read_from_what_a_terminal_sends(text: str, keys: list[str]) -> None:
    assert read_keys(text) == keys


@pytest.mark.parametrize("height", range(14, 60, 5))
@pytest.mark.parametrize("rows", [(1, 1, 1), (500, 40, 50), (2, 40, 1), (2, 1, 50)])
def test_tables_share_the_screen_and_leave_no_room_that_one_could_use(
    height: int, rows: tuple[int, int, int]
) -> None:
    heights = share(height, *rows)
    room = height - 8
    assert sum(heights) <= room
    assert sum(heights) == min(room, sum(rows))
    assert all(0 < each <= most for each, most in zip(heights, rows, strict=True))


def test_the_selected_row_is_seen() -> None:
    for selected in range(100):
        first, last = window(100, selected, 7)
        assert first <= selected < last
        assert last - first == 7
    assert window(3, 0, 7) == (0, 3)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (queue("q", ready=3, paused_at=NOW, consumers=0), "paused"),
        (queue("q", ready=3, consumers=0), "no worker"),
        (queue("q", consumers=0), ""),
        (queue("q", ready=3, running=2, concurrency=2), "limit full"),
        (queue("q", ready=3, failed=4), "4 failed"),
    ],
)
def test_a_queue_that_needs_a_word_has_it(found: QueueNow, word: str) -> None:
    assert state_of(found) == word


def test_durations_and_rates_are_short() -> None:
    shown = [brief(each) for each in (None, 0, 9.94, 61, 119.4, 120, 7199, 7200, 1e6, 1e9)]
    assert shown == ["", "0.0s", "9.9s", "61s", "119s", "2m", "120m", "2h", "12d", "11,574d"]
    assert [per_second(each) for each in (0, 0.1, 9.96, 1234.5)] == ["", "0.1", "10.0", "1,234"]
