"""Check the required packages before any module that needs them is loaded."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from .errors import InvalidURL, PgJobsError, RequirementMissing
from .printable import one_line

#: The oldest releases of Celery and kombu with which this works.
OLDEST = (5, 5)


def check() -> None:
    """Raise RequirementMissing unless Celery, kombu and psycopg are installed and new enough."""
    import kombu

    # A process that publishes with kombu alone has no Celery.
    for module in filter(None, (sys.modules.get("celery"), kombu)):
        version = tuple(getattr(module, "VERSION", OLDEST)[:2])
        if version < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            raise end(
                RequirementMissing(
                    f"pgjobs-celery needs {module.__name__} {wanted} or newer, and "
                    f'{module.__version__} is installed: pip install "celery>={wanted}"'
                )
            )
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise end(
            RequirementMissing(
                'psycopg finds no libpq here: pip install "pgjobs-celery[binary]", which brings '
                "one, or install PostgreSQL's client library (Debian, Ubuntu: apt install libpq5) "
                f"({one_line(str(error))})"
            )
        ) from None


def end(error: PgJobsError) -> PgJobsError:
    """The error to raise: in a command of Celery's one that ends it with one line."""
    click: Any = sys.modules.get("click")
    context = click.get_current_context(silent=True) if click else None
    main = sys.modules.get("celery.bin.celery")
    if context is None or main is None or context.find_root().command is not main.celery:
        return error
    kind = type(error)
    # It can still be caught as our error, and click shows it without a traceback.
    combined = type(kind.__name__, (kind, click.ClickException), {"__module__": kind.__module__})
    raised: PgJobsError = combined(str(error))
    vars(raised).update(message=str(error), show_color=None)
    return raised


def refuse_backend(app: Any = None, url: str | None = None) -> NoReturn:
    """Raise for ``postgresql://`` as a result backend, which Celery calls as one."""
    raise refusal()


def refusal() -> PgJobsError:
    """The error for ``postgresql://`` as a broker or backend."""
    return end(
        InvalidURL(
            "postgresql:// is not a scheme of a broker or result backend: write pgjobs:// in place "
            "of postgresql://"
        )
    )
