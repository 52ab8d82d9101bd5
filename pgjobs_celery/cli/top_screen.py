"""Draw what ``celery pgjobs top`` shows, for a terminal of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..printable import printable
from .top_view import LOW, Heights, brief, per_second, share, state_of, totals, window
from .workers import lease, runs

if TYPE_CHECKING:
    from ..control.overview import Failure, Overview, QueueNow
    from ..control.workers import Worker
    from .top_view import View

RIGHT: dict[str, Any] = {"justify": "right", "no_wrap": True}
LEFT: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}
#: From this width on there is room for what is only useful to know.
WIDE = 120
STYLES = {"paused": "magenta", "no worker": "bold red", "limit full": "yellow"}
#: The columns of numbers, and how wide each is at least.
SIZES = {"ready": 9, "running": 10, "in": 8, "out": 8, "oldest": 8}
#: How long the oldest job of a queue may wait before that is coloured, in seconds.
LONG = 60.0


def draw(view: View, corners: tuple[str, str], trouble: str, width: int, height: int) -> Group:
    """The screen: ``corners`` are for the upper ones, ``trouble`` why there is no newer look."""
    overview = view.overview
    assert overview is not None
    queues = view.queues()
    heights = share(
        height, len(queues), max(1, len(overview.workers)), max(1, len(overview.failures))
    )
    view.page = heights.queues
    left, right = corners
    space = max(0, width - cell_len(right))
    first = set_cell_size(printable(left), space) + right
    style = "bold" if view.asked or view.is_typing or view.message else "dim"
    below = 0 if height < LOW else 4 + heights.workers + heights.failures
    return Group(
        line(first, "reverse"),
        line(trouble, "bold white on red") if trouble else headline(overview, queues),
        *tables(view, overview, queues, heights, width),
        *([Text("")] * (height - 4 - heights.queues - below)),
        line(view.prompt(), style),
    )


def draw_all(view: View, title: str, width: int) -> Group:
    """All of it, for paper."""
    overview = view.overview
    assert overview is not None
    queues = view.queues()
    heights = Heights(len(queues), max(1, len(overview.workers)), len(overview.failures))
    return Group(
        Text(printable(title)),
        headline(overview, queues),
        *tables(view, overview, queues, heights, width),
    )


def line(text: str, style: str) -> Text:
    """One line, cut where the screen ends."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def headline(overview: Overview, queues: Sequence[QueueNow]) -> Text:
    """The sums."""
    ready, running, is_cut, rate_in, rate_out = totals(queues)
    more = "+" if is_cut else ""
    live = sum(worker.is_alive for worker in overview.workers)
    failed = sum(queue.failed for queue in queues)
    words = [
        f" ready {ready:,}{more}", f"running {running:,}", f"in {per_second(rate_in) or 0}/s",
        f"out {per_second(rate_out) or 0}/s", f"failed {failed:,} in {brief(overview.seconds)}",
        f"workers {live}",
    ]  # fmt: skip
    return line("   ".join(words), "bold red" if failed else "bold")


def tables(
    view: View, overview: Overview, queues: Sequence[QueueNow], heights: Heights, width: int
) -> list[RenderableType]:
    """Queues, workers and failures, as many rows as there is room for."""
    found: list[RenderableType] = [queue_table(view, queues, heights.queues, width)]
    if heights.workers or heights.failures:
        found += [Text(""), worker_table(overview.workers, heights.workers, width)]
        found += [Text(""), failure_table(overview.failures, heights.failures, width)]
    return found


def queue_table(view: View, queues: Sequence[QueueNow], height: int, width: int) -> Table:
    """A line for each queue; the selected one is marked."""
    names = [queue.name for queue in queues]
    selected = names.index(view.selected) if view.selected in names else -1
    first, last = window(len(queues), max(0, selected), height)
    seen = "" if last - first == len(queues) else f" {first + 1}-{last} of {len(queues):,}"
    heads = {
        "name": f"QUEUE{seen}", "ready": "READY", "running": "RUNNING", "in": "IN/s",
        "out": "OUT/s", "oldest": "OLDEST",
    }  # fmt: skip
    heads[view.sort] += "▴" if view.sort == "name" else "▾"
    if view.filter:
        heads["name"] += f" ~ {printable(view.filter)}"
    # Numbers that stand far from their names are hard to read.
    table = bare_table(min(width, WIDE))
    table.add_column(Text(heads.pop("name"), no_wrap=True), ratio=1, **LEFT)
    columns = columns_of(width)
    for column in columns:
        table.add_column(heads[column], min_width=SIZES[column], **RIGHT)
    table.add_column("", min_width=10, **LEFT)
    for place, queue in enumerate(queues[first:last], first):
        cells = queue_cells(queue)
        shown = [cells[name] for name in ("name", *columns, "state")]
        table.add_row(*shown, style="reverse" if place == selected else "")
    if not queues:
        table.add_row(Text("no queue has this in its name" if view.filter else "no queues"))
    return table


def columns_of(width: int) -> list[str]:
    """The columns of numbers that a screen of that width has room for."""
    if width < 50:
        return ["ready"]
    return [name for name in SIZES if width >= 70 or name not in ("in", "out")]


def queue_cells(queue: QueueNow) -> dict[str, Text]:
    """The cells of a queue's line, by column."""
    more, state = "+" if queue.is_cut else "", state_of(queue)
    running = f"{queue.running:,}" if queue.running else ""
    if queue.concurrency is not None:
        running = f"{queue.running:,}/{queue.concurrency:,}"
    is_late = queue.oldest_wait is not None and queue.oldest_wait > LONG
    return {
        "name": Text(printable(queue.name) or "(no queue)"),
        "ready": Text(f"{queue.ready:,}{more}" if queue.ready else ""),
        "running": Text(running),
        "in": Text(per_second(queue.rate_in)),
        "out": Text(per_second(queue.rate_out)),
        "oldest": Text(brief(queue.oldest_wait), style="yellow" if is_late else ""),
        "state": Text(state, style=STYLES.get(state, "red")),
    }


def worker_table(workers: Sequence[Worker], height: int, width: int) -> Table:
    """A line for each worker, those that are in trouble first."""
    shown = sorted(workers, key=lambda each: (each.is_alive, not each.is_silent, each.name))
    more = f" {height} of {len(shown):,}" if height < len(shown) else ""
    table = bare_table(width)
    table.add_column(f"WORKER{more}", ratio=2, **LEFT)
    table.add_column("POOL", **LEFT)
    table.add_column("JOBS", **RIGHT)
    table.add_column("OLDEST JOB", ratio=3, **LEFT)
    table.add_column("FOR", min_width=5, **RIGHT)
    if width >= WIDE:
        table.add_column("QUEUES", ratio=3, **LEFT)
        table.add_column("VERSION", **LEFT)
    table.add_column("LEASE", min_width=9, **LEFT)
    for worker in shown[:height]:
        table.add_row(*worker_cells(worker, width))
    if not workers:
        table.add_row(Text("no workers"))
    return table


def worker_cells(worker: Worker, width: int) -> list[Text]:
    """The cells of a worker's line."""
    style = "bold red" if not worker.is_alive else "yellow" if worker.is_silent else ""
    oldest = worker.jobs[0] if worker.jobs else None
    extra = (", ".join(worker.queues), worker.version or "") if width >= WIDE else ()
    return [
        Text(printable(worker.name), style=style),
        Text(printable(worker.pool or "-")),
        Text(runs(worker)),
        Text(printable(oldest.task) if oldest else ""),
        Text(brief(oldest.seconds) if oldest else ""),
        *(Text(printable(text)) for text in extra),
        Text(lease(worker), style=style),
    ]


def failure_table(failures: Sequence[Failure], height: int, width: int) -> Table:
    """A line for each of the jobs that failed last."""
    table = bare_table(width)
    table.add_column("FAILED", min_width=6, **RIGHT)
    table.add_column("TASK", ratio=1, **LEFT)
    table.add_column("ERROR", ratio=3 if width >= WIDE else 2, **LEFT)
    if width >= WIDE:
        table.add_column("QUEUE", **LEFT)
        table.add_column("ID", min_width=36, **LEFT)
    for each in failures[:height]:
        extra = (each.queue, each.task_id) if width >= WIDE else ()
        cells = (brief(each.seconds), each.task, " ".join(each.error.split()), *extra)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if not failures:
        table.add_row("", Text("none lately"))
    return table


def bare_table(width: int) -> Table:
    """A table without lines, as wide as the screen."""
    return Table(
        box=None, expand=True, width=width, pad_edge=False, padding=(0, 2, 0, 0),
        header_style="bold cyan", show_edge=False, collapse_padding=True,
    )  # fmt: skip
