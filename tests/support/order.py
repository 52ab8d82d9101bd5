"""In which order several processes take the files of the suite."""

from __future__ import annotations

import pytest

#: The files that take longest, which several processes begin with: none is left for the end.
LONGEST = (
    "tests/docs/test_examples.py",
    "tests/web/browser/test_acting.py",
    "tests/web/browser/test_pages.py",
    "tests/e2e/test_stalls.py",
    "tests/web/test_security.py",
    "tests/docs/test_payments.py",
    "tests/e2e/test_greenlet_effects.py",
    "tests/e2e/test_beat_outages.py",
    "tests/publishing/test_using_random.py",
    "tests/benchmarks/test_systems.py",
    "tests/e2e/test_chords.py",
    "tests/e2e/test_quickstart.py",
    "tests/e2e/test_rescue.py",
    "tests/e2e/test_hooks.py",
    "tests/test_embedded.py",
    "tests/e2e/test_hostile_messages.py",
    "tests/e2e/test_role_settings.py",
    "tests/cli/test_rights.py",
    "tests/e2e/test_running.py",
    "tests/e2e/test_effects.py",
    "tests/e2e/test_connections.py",
    "tests/e2e/test_strategies.py",
    "tests/e2e/test_greenlets.py",
    "tests/e2e/test_steps.py",
    "tests/testing/test_plugin.py",
    "tests/testing/test_transactions.py",
    "tests/e2e/test_pools.py",
    "tests/e2e/test_unstored.py",
    "tests/e2e/test_coroutines.py",
    "tests/e2e/test_faults.py",
    "tests/e2e/test_sent_tasks.py",
    "tests/e2e/test_chord_faults.py",
    "tests/e2e/test_first_messages.py",
    "tests/e2e/test_reconnect.py",
    "tests/e2e/test_upgrades.py",
    "tests/e2e/test_fuzzed_messages.py",
    "tests/e2e/test_full_server.py",
    "tests/soak/test_soak.py",
    "tests/db/test_model.py",
    "tests/broker/test_claim_plan.py",
    "tests/db/test_migrations.py",
    "tests/cli/test_main.py",
    "tests/cli/test_web.py",
    "tests/field/test_judging.py",
    "tests/db/test_plans.py",
    "tests/publishing/test_using.py",
    "tests/publishing/test_enqueue_many.py",
    "tests/e2e/test_lost_steps.py",
    "tests/e2e/test_shutdown.py",
    "tests/e2e/test_pool_sizes.py",
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
