"""When a cron expression is due next, in a time zone whose clocks change. No Celery here.

The expression is matched against the wall clock by croniter; what a change of the clocks does is
decided here, by the rule of Vixie's cron (``man 8 cron``, "Daylight Saving Time"):

- An expression whose hour begins with ``*`` is about intervals. It is due whenever the wall clock
  matches, in a repeated hour twice as well, and a skipped hour has no such moment.
- Any other names times of day, and each is due once. One that is skipped is due at once when the
  clocks have been put forward; in a repeated hour the first one counts.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from croniter import CroniterBadDateError, croniter

from ..errors import InvalidOption

#: The interval at which clocks are checked for a change; no zone has had two changes in less.
STEP = timedelta(hours=12)
SECOND = timedelta(seconds=1)
#: ``3-3``, which croniter reads as ``*``.
_RANGE_OF_ONE = re.compile(r"(?<![\w-])(\w+)-\1(?:/\w+)?(?![\w-])")


#: How long an expression may be, in characters: one that names each value of each field has less,
#: and to read 400,000 takes minutes.
LONGEST = 1000


@lru_cache(maxsize=4096)
def parse(expression: str) -> tuple[str, ...]:
    """The five fields of an expression, nicknames such as ``@daily`` resolved.

    Raises InvalidOption for anything else: six fields, ``H`` and ``R`` of other crons, nonsense.
    """
    if len(expression) > LONGEST:
        raise InvalidOption(
            f"a cron expression has at most {LONGEST:,} characters, not {len(expression):,}"
        )
    try:
        written = croniter(_RANGE_OF_ONE.sub(r"\1", expression), datetime(2000, 1, 1)).expressions
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidOption(f"{expression!r} is not a cron expression: {error}") from None
    if len(written) != 5:
        raise InvalidOption(
            f"{expression!r} has {len(written)} fields; write minute, hour, day of month, month "
            "and day of week"
        )
    for field in written:
        if field[:1].lower() in ("h", "r"):
            raise InvalidOption(f"{expression!r}: {field!r} would be another time in each process")
    return tuple(written)


def has_either_day(expression: str) -> bool:
    """True where a day of the month and one of the week are given: a day of either kind counts.

    That is cron's rule, and ``*/2`` counts as given: in croniter, though not in all crons.
    Celery's ``crontab`` asks for both.
    """
    expanded: list[list[int | str]] = croniter(" ".join(parse(expression))).expanded
    return expanded[2] != ["*"] and expanded[4] != ["*"]


def next_tick(expression: str, zone: tzinfo, after: datetime) -> datetime:
    """The first moment after ``after`` at which the expression is due, in UTC.

    Raises InvalidOption for one that never is (February 30).
    """
    fields = parse(expression)
    is_about_intervals = fields[1].startswith("*")
    start = after.astimezone(timezone.utc).replace(microsecond=0)
    wall = _wall(start, zone)
    while True:
        match = _next_match(" ".join(fields), wall)
        candidate = match - _offset(start, zone)
        change = next_change(start, candidate, zone)
        if change is None:
            if is_about_intervals or not _is_repeated(candidate, zone):
                return candidate
            wall = match
            continue
        before, behind = _wall(change - SECOND, zone) + SECOND, _wall(change, zone)
        if not is_about_intervals and match < behind:
            return change
        start = change
        wall = (behind if is_about_intervals else max(before, behind)) - SECOND


def _next_match(expression: str, wall: datetime) -> datetime:
    try:
        # As if it were UTC: to croniter the wall clock is a clock that never changes.
        found: datetime = croniter(expression, wall).get_next(datetime)
    except CroniterBadDateError:
        raise InvalidOption(f"{expression!r} is never due") from None
    return found.replace(tzinfo=timezone.utc)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """The wall clock's time, written as a moment in UTC."""
    return moment + _offset(moment, zone)


def _is_repeated(moment: datetime, zone: tzinfo) -> bool:
    """True in the second of two hours that the clocks show alike."""
    return moment.astimezone(zone).fold == 1


def next_change(after: datetime, until: datetime, zone: tzinfo) -> datetime | None:
    """When the clocks change next, to the second, after ``after`` and up to ``until``."""
    low, offset = after, _offset(after, zone)
    while low < until:
        high = min(low + STEP, until)
        if _offset(high, zone) != offset:
            while high - low > SECOND:
                middle = low + timedelta(seconds=(high - low) // SECOND // 2)
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None
