"""``celery pgjobs`` where something is not installed that it needs."""

from __future__ import annotations

import click

from ..errors import RequirementMissing


def refusing(error: RequirementMissing) -> click.Command:
    """A command that takes any words, and ends with the one line that says what to install."""

    @click.command(
        "pgjobs",
        short_help="Look after jobs, once what is missing is installed.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def pgjobs(words: tuple[str, ...]) -> None:
        raise click.ClickException(str(error))

    return pgjobs
