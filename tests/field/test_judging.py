"""How the field runs judge what foreign software saw, and write it down."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from .. import matrix
from . import __main__ as field
from . import environments, programs, suites, table
from .product import Environment, Outcome, Product, Size, Skip
from .products import PRODUCTS
from .suites import Difference

TODAY = date(2026, 11, 29)


def test_a_suite_that_fails_alike_on_both_sides_is_as_on_redis():
    ended = {"m::a": "passed", "m::b": "failed", "m::c": "skipped"}
    assert suites.judge(ended, ended, []) == ("as on Redis: 1 passed, 1 failed on both", ())


def test_a_failure_on_pgjobs_alone_is_one_unless_its_reason_is_listed():
    pgjobs = {"m::a": "passed", "m::b": "failed", "m::b2": "failed"}
    redis = dict.fromkeys(pgjobs, "passed")
    found = suites.judge(pgjobs, redis, [Difference("m::b", "by design")])
    assert found.result == "FAILED: 1 passed, 1 failed, 1 differ as listed"
    assert found.notes == ("failed: m::b2", "differs: m::b: by design")


def test_a_listed_difference_that_has_gone_is_told():
    ended = {"m::a": "passed", "m::b": "passed"}
    listed = [Difference("m::a", "by design"), Difference("m::z", "not run today")]
    assert suites.judge(ended, ended, listed).notes == ("no longer differs: m::a",)


def test_a_suite_without_redis_is_judged_by_itself():
    assert suites.judge({"m::a": "passed"}, None, []) == ("passed: 1 passed", ())
    assert suites.judge({"m::a": "failed"}, None, []).result.startswith("FAILED")


def test_a_suite_of_which_nothing_ran_has_failed():
    assert suites.judge({}, None, []).result.startswith("FAILED")
    assert suites.judge({"m::a": "skipped"}, None, []).result.startswith("FAILED")


def test_a_test_that_passed_when_tried_again_has_passed(tmp_path: Path):
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite><testcase classname='m.C' name='a[1]'><failure/></testcase>"
        "<testcase classname='m' name='b'><skipped/></testcase><testcase classname='m' name='c'>"
        "<error/></testcase><testcase classname='m' name='d'/></testsuite></testsuites>"
    )
    assert dict(suites.read_report(report)) == {
        "m.C::a[1]": "failed",
        "m::b": "skipped",
        "m::c": "failed",
        "m::d": "passed",
    }


@pytest.mark.parametrize(
    ("seen", "control", "result"),
    [
        ({"sum": 3}, {"sum": 3}, "as on Redis"),
        ({"sum": 3}, None, "as expected"),
        ({"sum": 4}, {"sum": 4}, "FAILED"),
        ({"sum": 3}, {"sum": 4}, "FAILED"),
        ({}, {"sum": 3}, "FAILED"),
        ({programs.BROKEN: "exit code 1"}, {"sum": 3}, "FAILED"),
        ({"sum": 3}, {programs.BROKEN: "exit code 1"}, "FAILED"),
    ],
)
def test_a_program_must_see_what_is_expected_and_the_same_on_redis(
    seen: dict[str, object], control: dict[str, object] | None, result: str
):
    assert programs.judge(seen, control, {"sum": 3}, {}).result == result


def test_a_listed_difference_is_told_with_its_reason():
    found = programs.judge({"sum": 3}, {"sum": 4}, {"sum": 3}, {"sum": "it counts twice"})
    assert found.result == "as expected"
    assert found.notes == ("differs: sum: 3, on Redis 4: it counts twice",)


def test_an_error_of_the_worker_itself_is_found_though_all_was_seen(tmp_path: Path):
    quiet, loud = tmp_path / "quiet.log", tmp_path / "loud.log"
    quiet.write_text("Task a.b raised unexpected: ValueError()\n")
    assert not programs.find_pool_error([quiet])
    loud.write_text(f"ready\nERROR: {programs.POOL_ERROR}: AttributeError('no')\nTraceback\n")
    found = programs.find_pool_error([quiet, loud])
    assert found == f"{loud}: ERROR: {programs.POOL_ERROR}: AttributeError('no')"


def test_the_page_keeps_the_rows_of_products_that_were_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\n\nNot run yet.\n\n{table.END}\n\nbehind\n")
    monkeypatch.setattr(matrix, "PAGE", page)
    monkeypatch.setattr(table, "PAGE", page)
    first, second, third = [product.name for product in PRODUCTS[:3]]
    table.write_page([_outcome(second, "as on Redis"), _outcome(first, "as expected")], TODAY)
    # What could not be run today says nothing against what was found before.
    again = [_outcome(first, "skipped", "no registry"), _outcome(third, "skipped", "no Redis")]
    table.write_page([*again, _outcome(second, "FAILED", "a|b")], TODAY)
    lines = page.read_text().splitlines()
    assert [line for line in lines if line.startswith("| ")][1:] == [
        f"| {first} | 1.0 | all | as expected | 2026-11-29 |",
        f"| {second} | 1.0 | all | FAILED: a/b | 2026-11-29 |",
        f"| {third} | 1.0 | all | skipped: no Redis | 2026-11-29 |",
    ]
    assert lines[0] == "before"
    assert lines[-1] == "behind"


def test_a_product_that_the_registry_lacks_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(environments, "FIELD", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(Skip, match=r"pip: .*(No matching|Could not find)"):
        environments.make_environment(Environment("none", ("a-package-that-is-nowhere",)))
    assert not (tmp_path / "none" / "venv" / "installed").exists()


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("ERROR: No matching distribution found for nothing\n", "ERROR: No matching distribution"),
        (
            "  File\n  Exception: Could not find lz4\n  note: from a subprocess\n",
            "Exception: Could",
        ),
        ("x.c:1: y\n  distutils.errors.CompileError: gcc\nERROR: Failed building\n", "distutils."),
        ("killed\n", "killed"),
        ("", "failed"),
    ],
)
def test_the_reason_of_a_failed_installation_is_that_of_the_build(errors: str, reason: str):
    assert environments.find_reason(errors).startswith(reason)


def test_what_a_product_needs_to_build_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise Skip("pip: Exception: no headers")

    monkeypatch.setattr(environments, "FIELD", tmp_path)
    monkeypatch.setattr(environments, "pip_install", fail)
    with pytest.raises(Skip, match=r"no headers \(needs liblz4\)"):
        environments.make_environment(Environment("none", ("none",), needs="liblz4"))


def test_the_choice_of_products():
    def choose(*names: str, is_fast: bool = False, is_big: bool = False) -> list[Product]:
        return field.choose(names, is_fast=is_fast, is_big=is_big)

    assert choose(is_big=True) == list(PRODUCTS)
    assert not any(product.size is Size.BIG for product in choose())
    assert {product.size for product in choose(is_fast=True)} == {Size.SMALL}
    assert [product.name for product in choose("mayan", "celery-batches")] == [
        "celery-batches",
        "mayan",
    ]
    unknown = CliRunner().invoke(field.main, ["oracle"])
    assert unknown.exit_code == 2
    assert "oracle is not among the products" in unknown.output


def test_names_of_products_are_unlike():
    names = [product.name for product in PRODUCTS]
    assert len(names) == len(set(names))


def _outcome(name: str, result: str, *notes: str) -> Outcome:
    return Outcome(name, "1.0", "all", result, 1.0, notes)
