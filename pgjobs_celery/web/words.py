"""Numbers, durations and times as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from shlex import quote

from markupsafe import Markup

from ..job.exceptions import is_endless
from ..job.spelling import write_duration
from .values import visible

#: Stands where there is no value.
NOTHING = "\N{EN DASH}"

_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60))


#: How people call each range of the charts.
RANGES = {"hour": "Last hour", "day": "Last day", "week": "Last week"}


def duration(seconds: float | timedelta | None) -> str:
    """``1.2 s``, ``3 min``, ``2 h 5 min``; a dash for None.

    >>> duration(0.0042), duration(1.234), duration(187), duration(7_500)
    ('4.2 ms', '1.2 s', '3 min 7 s', '2 h 5 min')
    """
    if seconds is None:
        return NOTHING
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if value < 0:
        return f"-{duration(-value)}"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value < 0.0995 else f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    for (unit, size), (below, part) in zip(_SPANS, (*_SPANS[1:], ("s", 1)), strict=True):
        if whole >= size:
            number, rest = divmod(whole, size)
            parts = rest // part
            return (
                f"{number:,} {unit} {parts} {below}"
                if parts and number < 10
                else f"{number:,} {unit}"
            )
    return f"{whole} s"  # pragma: no cover: 600 s are minutes


def count(number: float | None) -> str:
    """``12,345``, and ``1.2 M`` from a million on; a dash for None."""
    if number is None:
        return NOTHING
    if number >= 999_500_000:
        return f"{number / 1e9:.3g} G"
    if number >= 999_950:
        return f"{number / 1e6:.1f} M"
    return f"{number:,.0f}"


def rate(per_second: float | None) -> str:
    """``12 / s``, or a minute's, an hour's or a day's where that reads better.

    >>> rate(12), rate(0.2), rate(0.001), rate(0.0001)
    ('12 / s', '12 / min', '3.6 / h', '8.6 / d')
    """
    if not per_second:
        return "0" if per_second is not None else NOTHING
    if per_second >= 1:
        return f"{per_second:,.3g} / s" if per_second < 1000 else f"{per_second:,.0f} / s"
    for unit, size in (("min", 60), ("h", 3_600)):
        if per_second * size >= 0.995:
            return f"{per_second * size:.2g} / {unit}"
    return f"{per_second * 86_400:.2g} / d"


def share(part: float, whole: float) -> str:
    """A part in percent: ``14 %``, ``0.3 %``; a dash of nothing."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def ago(moment: datetime | None, now: datetime) -> str:
    """``3 min ago`` or ``in 3 min``; a dash for None."""
    if moment is None:
        return NOTHING
    try:
        seconds = (now - moment).total_seconds()
    except OverflowError:
        return "long ago" if moment < now else "never"
    if abs(seconds) < 1:
        return "now"
    words = duration(round(abs(seconds)) if abs(seconds) >= 10 else abs(seconds))
    return f"{words} ago" if seconds > 0 else f"in {words}"


def moment(value: datetime | None, now: datetime | None = None) -> Markup:
    """A time, relative, with the absolute one on hover; the script keeps it up to date."""
    if value is None:
        return Markup(NOTHING)
    at = value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
    iso = at.isoformat()
    shown = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, shown, ago(at, now or datetime.now(timezone.utc))
    )


def due(value: datetime | None, now: datetime | None = None) -> Markup | str:
    """When a job runs, as :func:`moment`; that of one which waits without a timeout is no time."""
    return "no timeout" if is_endless(value, now) else moment(value, now)


def since(value: datetime | None, now: datetime | None = None) -> Markup:
    """How long ago a time was, as a duration; the script keeps it up to date."""
    if value is None:
        return Markup(NOTHING)
    at = value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)
    seconds = max(0.0, ((now or datetime.now(timezone.utc)) - at).total_seconds())
    shown = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}" data-form="since">{}</time>').format(
        at.isoformat(), shown, duration(round(seconds) if seconds >= 10 else seconds)
    )


def minute(value: datetime) -> Markup:
    """A time of the day, ``02:10``; the script shows it in the visitor's zone."""
    at = value.astimezone(timezone.utc)
    return Markup('<time datetime="{}" title="{}" data-form="minute">{}</time>').format(
        at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S UTC"), at.strftime("%H:%M UTC")
    )


def copied(text: str) -> str:
    """A text to be copied into a shell: nothing, if it is not what it looks like.

    >>> copied("pgjobs pause mail"), copied("pgjobs pause 'mail\\x1b[8m'")
    ('pgjobs pause mail', '')
    """
    return text if text.replace("\n", "").isprintable() else ""


def spelled(seconds: float) -> str:
    """A duration for a field, with its unit: as forms and the command line read it.

    >>> spelled(90.0), spelled(120.0)
    ('90s', '2m')
    """
    text = write_duration(seconds)
    return f"{text}s" if text[-1].isdigit() else text


FILTERS = {
    "duration": duration, "count": count, "rate": rate, "moment": moment, "since": since,
    "due": due, "minute": minute, "visible": visible, "shell": quote, "python": repr,
    "copied": copied, "spelled": spelled,
}  # fmt: skip
