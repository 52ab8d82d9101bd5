"""What lies within a sliding period."""

from collections.abc import Iterable


def most_within(times: Iterable[float], seconds: float) -> int:
    """The largest number of these in any period of that length; ``times`` are in order.

    A period is open at its end: what begins exactly ``seconds`` later is in the next one.
    """
    most, first, ordered = 0, 0, list(times)
    for last, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
