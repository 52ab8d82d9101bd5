"""What a measurement may end in, other than numbers."""


class BenchmarkError(Exception):
    """Something went wrong that is no property of the system measured."""


class Unavailable(BenchmarkError):
    """The system cannot be measured here; the message says why."""


class Unfinished(BenchmarkError):
    """The system did not get there in the time allowed: a result, reported beside the numbers."""


class WrongOutcome(BenchmarkError):
    """A task was lost, ran twice, or left something behind: the run does not count."""
