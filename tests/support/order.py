"""In which order several processes take the files of the suite."""

from __future__ import annotations

import pytest

#: The files that take longest, which several processes begin with: none is left for the end.
LONGEST = (
    "tests/docs/test_examples.py",
    "tests/web/browser/test_acting.py",
    "tests/web/browser/test_pages.py",
    "tests/web/test_security.py",
    "tests/e2e/test_quickstart.py",
    "tests/e2e/test_stalls.py",
    "tests/e2e/test_chord_faults.py",
    "tests/benchmarks/test_systems.py",
    "tests/e2e/test_hooks.py",
    "tests/e2e/test_faults.py",
    "tests/cli/test_main.py",
    "tests/cli/test_web.py",
    "tests/field/test_judging.py",
    "tests/db/test_plans.py",
    "tests/db/test_model.py",
    "tests/publishing/test_using.py",
    "tests/publishing/test_enqueue_many.py",
    "tests/e2e/test_lost_steps.py",
    "tests/e2e/test_running.py",
    "tests/e2e/test_shutdown.py",
    "tests/e2e/test_beat_outages.py",
    "tests/e2e/test_role_settings.py",
    "tests/e2e/test_first_messages.py",
    "tests/e2e/test_pool_sizes.py",
    "tests/test_embedded.py",
)


def in_order_of_work(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests of the longest files, then those of workers spread among all others."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    longest = [name for name in LONGEST if name in files]
    waiting = [name for name in files if "/e2e/" in name and name not in longest]
    others = [name for name in files if name not in (*longest, *waiting)]
    # Files of workers take long: with the last of them a fifth of the others is left.
    places = {name: 0.8 * number / len(waiting) for number, name in enumerate(waiting)}
    places |= {name: number / len(others) for number, name in enumerate(others)}
    order = longest + sorted(places, key=places.__getitem__)
    return [item for name in order for item in files[name]]
