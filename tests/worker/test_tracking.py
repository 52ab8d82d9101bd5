"""What a tracked request reads of its task, whose attributes differ between versions of Celery."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pgjobs_celery.worker.tracking import acks_on_timeout


@pytest.mark.parametrize("is_acked", [True, False])
def test_celery_5_6_has_one_setting_for_failures_and_time_limits(is_acked: bool):
    assert acks_on_timeout(SimpleNamespace(acks_on_failure_or_timeout=is_acked)) is is_acked


@pytest.mark.parametrize("is_acked", [True, False])
def test_celery_5_7_tells_time_limits_from_failures(is_acked: bool):
    task = SimpleNamespace(acks_on_failure_or_timeout=None, acks_on_timeout=is_acked)
    assert acks_on_timeout(task) is is_acked
