"""Each name of Celery's on which the code relies still exists, and is in the list of them."""

from __future__ import annotations

import celery
import pytest

from ..support.private_names import find_names, find_overrides, is_private, load, names_of
from .celery_internals import ELSEWHERE, INTERNALS, MIXINS, OURS, PAGE, ROOT, Internal, page

#: Those that the installed release has.
PRESENT = [each for each in INTERNALS if not each.since or celery.VERSION[:3] >= each.since]
LISTED = {each.name for each in INTERNALS}


def case(each: Internal) -> str:
    return f"{each.owner}.{each.name}"


@pytest.mark.parametrize("each", INTERNALS, ids=case)
def test_the_name_exists(each: Internal):
    if each not in PRESENT:
        pytest.skip(f"since {each.since}")
    assert each.name in names_of(load(each.owner))


@pytest.mark.parametrize("each", INTERNALS, ids=case)
def test_its_test_exists(each: Internal):
    path, _, name = each.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")


def test_every_private_name_in_the_code_is_listed():
    used = {name.removeprefix("_."): modules for name, modules in find_names().items()}
    unknown = {name: used[name] for name in used.keys() - LISTED - ELSEWHERE.keys() - OURS}
    assert unknown == {}


def test_every_private_name_that_a_class_shares_with_its_base_is_listed():
    shared = find_overrides(MIXINS)
    assert {name: shared[name] for name in shared.keys() - LISTED - OURS} == {}


def test_nothing_is_listed_that_the_code_does_not_use():
    used = {name.removeprefix("_.") for name in find_names()} | find_overrides(MIXINS).keys()
    present = {each.name for each in PRESENT}
    listed = {name for name in present | ELSEWHERE.keys() | OURS if is_private(name)}
    assert listed - used == set()


def test_the_page_shows_the_list():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.worker.celery_internals"
