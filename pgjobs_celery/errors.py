"""Every error this package raises; each names the cause and the remedy."""

from __future__ import annotations


class PgJobsError(Exception):
    """Something went wrong in pgjobs-celery."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__ or "")


class InvalidURL(PgJobsError, ValueError):
    """The broker or backend URL cannot be read as a PostgreSQL connection string."""


class UnknownOption(PgJobsError, ValueError):
    """An option or setting with this name does not exist."""


class InvalidOption(PgJobsError, ValueError):
    """An option or setting has a value that cannot be used."""


class RequirementMissing(PgJobsError, ImportError):
    """Something has to be installed, or is too old."""


class SchemaError(PgJobsError):
    """The database schema does not fit this release."""


class SchemaMissing(SchemaError):
    """The jobs tables do not exist yet: run ``celery -A proj pgjobs migrate``."""


class SchemaOutOfDate(SchemaError):
    """The database is behind this release: run ``celery -A proj pgjobs migrate``."""


class SchemaTooNew(SchemaError):
    """The database was migrated by a newer, incompatible release: upgrade pgjobs-celery."""


class MigrationLocked(SchemaError):
    """Another process is migrating, or a long transaction holds the tables: try again later."""


class MigrationFailed(SchemaError):
    """A migration file could not be applied; its transaction was rolled back."""


class PermissionMissing(PgJobsError):
    """The database role lacks a privilege that this operation needs."""


class MessageRefused(PgJobsError, ValueError):
    """The message cannot be stored as it is."""


class BodyTooLarge(MessageRefused):
    """The message body is larger than ``max_body_size``: pass a reference instead of the data."""


class IdempotencyMismatch(PgJobsError, ValueError):
    """A job with this idempotency key was published before, and its arguments were others."""


class UndecodableRow(PgJobsError):
    """A stored message could not be read back; its row was set aside."""


class ClaimLost(PgJobsError):
    """The task no longer holds its job: it was taken from its worker, or has ended."""


class StepsUnavailable(PgJobsError):
    """Steps need a job in the database: a broker that is ``pgjobs://``."""


class StepNotRemembered(PgJobsError):
    """The value of a step cannot be kept: return less, or something that the serializer knows."""


class StepRepeated(PgJobsError):
    """Another run of the job has recorded the step meanwhile: roll back, the next run finds it."""


class SignalTimeout(PgJobsError, TimeoutError):
    """The signal that a job has waited for did not come in time."""


class JobCompleted(PgJobsError):
    """The job has been completed by ``self.transaction()``: nothing can follow in this run."""


class OutcomeUnknown(PgJobsError):
    """Whether a transaction was committed cannot be found out; the job's row knows."""


class CoroutineCancelled(PgJobsError):
    """A task's coroutine ended by a CancelledError that neither a cancellation of its job nor a
    shutdown has caused."""


class TransactionFailed(PgJobsError):
    """The caller's transaction has failed; its driver's error is the cause."""


class CannotJoin(PgJobsError):
    """This cannot be part of the caller's transaction."""


class NotCommitted(PgJobsError):
    """The result of a job cannot arrive in the transaction that publishes it."""


class NotAllPublished(PgJobsError):
    """Only some of many jobs were published: ``published`` is their number."""

    def __init__(self, message: str = "", published: int = 0) -> None:
        super().__init__(message)
        #: How many were published before.
        self.published = published


class QueueFull(PgJobsError):
    """A queue has as many waiting jobs as it may have, and nothing was published."""

    def __init__(self, message: str = "", queue: str = "", depth: int = 0, max_depth: int = 0):
        super().__init__(message)
        #: The queue.
        self.queue = queue
        #: How many of its jobs were waiting.
        self.depth = depth
        #: How many may.
        self.max_depth = max_depth


class RateExceeded(PgJobsError, TimeoutError):
    """A rate has no token in the time that its caller would wait."""

    def __init__(self, message: str = "", retry_after: float = 0.0):
        super().__init__(message)
        #: In how many seconds the next one comes.
        self.retry_after = retry_after


class ConnectionFailed(PgJobsError):
    """The server cannot be reached or refuses the login."""


class ConfiguredEntry(PgJobsError):
    """The entry is one of the program's ``beat_schedule``: change it there."""


class NothingRuns(PgJobsError):
    """Nothing in this test runs the job whose result it waits for."""


class UnknownTask(PgJobsError):
    """The app under test does not have the task of a job that this test runs."""


class NotCompleted(PgJobsError):
    """The job whose result this test asks for did not complete, and raised no exception."""


class NeverEnds(PgJobsError):
    """A queue in this test does not become empty: a job always puts another one in line."""
