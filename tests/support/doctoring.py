"""Have the doctor look, and try the remedies that it names."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from pgjobs_celery.control.doctor.doctor import doctor
from pgjobs_celery.control.doctor.findings import KNOWN, Finding
from pgjobs_celery.control.doctor.thresholds import Thresholds
from pgjobs_celery.db.database import Database

#: True of the suite's own server, which is made to be fast.
OF_THE_SUITE = ("fsync_off",)


def look(database: Database, app: Any = None, **limits: float) -> dict[tuple[str, str], Finding]:
    """The findings by code and subject; all of their texts are printable."""
    report = doctor(database, app, limits=Thresholds(**{"twice": 0.0, **limits}))
    for each in report.findings:
        assert each.code in KNOWN
        for text in (each.title, each.subject, each.evidence, each.remedy):
            assert text.isprintable(), text
        assert each.evidence
        assert each.remedy
    found = {(each.code, each.subject): each for each in report.findings}
    assert len(found) == len(report.findings), report.findings
    return {key: each for key, each in found.items() if each.code not in OF_THE_SUITE}


def codes(database: Database, app: Any = None, **limits: float) -> list[str]:
    """The codes of the findings."""
    return sorted({code for code, _ in look(database, app, **limits)})


def cure(connection: psycopg.Connection[Any], remedy: str) -> None:
    """Run the SQL of a remedy as it is printed, one statement after the other."""
    text = remedy.partition(" -- ")[0]
    is_body = "CREATE OR REPLACE" in text or "CREATE FUNCTION" in text
    for statement in [text] if is_body else filter(None, map(str.strip, text.split(";"))):
        connection.execute(sql.SQL(statement))
