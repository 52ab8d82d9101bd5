"""Print for ``celery pgjobs``: only printable text, even of values from other programs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import click

from ..printable import one_line, printable, printable_lines, to_json

#: The choice of :func:`echo_json`.
json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


def echo(text: str, *, err: bool = False) -> None:
    """Print one line."""
    with writing():
        click.echo(printable(text), err=err)


def echo_lines(text: str) -> None:
    """Print a text of several lines, which is ours but for what stands within them."""
    with writing():
        click.echo(printable_lines(text).rstrip("\n"))


def echo_json(data: Any) -> None:
    """Print for machines."""
    with writing():
        click.echo(to_json(data))


def failure(error: BaseException) -> click.ClickException:
    """An error as the one line that a command ends with."""
    return click.ClickException(one_line(" ".join(str(error).split())))


def readable(seconds: float | None) -> str:
    """A duration for people: ``0:04:10``; nothing for None."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def show_table(
    columns: Sequence[tuple[str, dict[str, Any]]],
    rows: Iterable[Sequence[str]],
    *,
    no_color: bool,
) -> None:
    """Print a line for each row; the columns are names, and what rich is to do with each."""
    # Every celery command imports this module; only this one pays for rich.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(no_color=no_color)
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to wrap at
    table = Table(box=box.SIMPLE)
    for name, options in columns:
        table.add_column(name, **options)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    with writing():
        console.print(table)


@contextmanager
def writing() -> Iterator[None]:
    """A failed write in the block, to a full disk, ends the command with one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click exits silently: no process reads any longer
        # The interpreter would try to write the buffer once more at its end.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        why = error.strerror or str(error)
        raise click.ClickException(f"the output cannot be written: {why}") from error
