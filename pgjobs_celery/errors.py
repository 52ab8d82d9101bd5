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


class UndecodableRow(PgJobsError):
    """A stored message could not be read back; its row was set aside."""


class ClaimLost(PgJobsError):
    """The job is not this task's any more: it was taken from its worker, or has ended."""


class TransactionFailed(PgJobsError):
    """The caller's transaction has failed; its driver's error is the cause."""


class CannotJoin(PgJobsError):
    """This cannot be part of the caller's transaction."""


class NotCommitted(PgJobsError):
    """The result of a job is waited for in the transaction that publishes it, and never comes."""


class NotAllPublished(PgJobsError):
    """Of many jobs that were to be published, some were: ``published`` says how many."""

    def __init__(self, message: str = "", published: int = 0) -> None:
        super().__init__(message)
        #: How many were published before.
        self.published = published


class ConnectionFailed(PgJobsError):
    """The server cannot be reached or refuses the login."""


class ConfiguredEntry(PgJobsError):
    """The entry is one of the program's ``beat_schedule``: change it there."""


class NothingRuns(PgJobsError):
    """In this test nothing runs the job whose result is waited for."""


class UnknownTask(PgJobsError):
    """In this test a job is to be run whose task the app does not have."""


class NotCompleted(PgJobsError):
    """In this test the result of a job is asked for that did not complete, and raised nothing."""


class NeverEnds(PgJobsError):
    """In this test a queue does not become empty: a job always puts something back in line."""
