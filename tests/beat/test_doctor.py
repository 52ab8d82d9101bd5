"""The doctor's look at the entries of an app."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from celery import Celery
from celery.schedules import crontab

from pgjobs_celery import cron
from pgjobs_celery.beat.doctor import look_at_schedules
from pgjobs_celery.control.app import database_of
from pgjobs_celery.control.doctor.findings import Severity

from ..support.shop import report


@pytest.fixture
def app(make_app: Callable[..., Celery], request: pytest.FixtureRequest) -> Celery:
    zone = getattr(request, "param", "Europe/Berlin")
    app = make_app("shop", timezone=zone)
    app.task(report, name="shop.report")
    return app


def found(app: Celery, **entries: object) -> list[tuple[str, str]]:
    app.conf.beat_schedule = {
        name: {"task": "shop.report", "schedule": schedule} for name, schedule in entries.items()
    }
    return [(each.code, each.subject) for each in look_at_schedules(app, database_of(app))]


def test_a_crontab_that_a_change_of_the_clocks_skips_or_repeats(app: Celery) -> None:
    findings = found(app, hourly=crontab(minute="0"), noon=crontab(minute="0", hour="12"))
    assert findings == [("crontab_clocks", "hourly")]
    findings = found(app, **{f"e{n}": crontab(minute="0") for n in range(9)})
    assert findings == [("crontab_clocks", "e0")]
    (finding,) = look_at_schedules(app, database_of(app))
    assert finding.evidence.startswith("Entries e0, e1, e2, e3, e4 and 4 more: on 20")
    assert len(finding.details["entries"]) == 9
    assert all(
        each.severity is Severity.NOTICE for each in look_at_schedules(app, database_of(app))
    )
    assert found(app, hourly=cron("0 * * * *"), noon=cron("0 12 * * *")) == []


@pytest.mark.parametrize("app", ["UTC"], indirect=True)
def test_in_utc_no_clocks_change(app: Celery) -> None:
    assert found(app, hourly=crontab(minute="0")) == []


def test_an_entry_that_cannot_be_published(app: Celery) -> None:
    assert found(app, each_hour=timedelta(hours=1)) == []
    app.conf.beat_schedule = {"lost\x1b": {"task": "shop.gone", "schedule": 3600.0}}
    (finding,) = look_at_schedules(app, database_of(app))
    assert finding.code == "schedule_wrong"
    assert finding.evidence.isprintable()
    app.task(report, name="shop.gone", shared=False)
    assert list(look_at_schedules(app, database_of(app))) == []
