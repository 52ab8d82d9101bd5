"""Values of rows as they are shown: whatever stands there, read without running any of it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.web.redact import HIDDEN
from pgjobs_celery.web.values import (
    ABSENT,
    MOST_ENTRIES,
    MOST_ITEMS,
    Item,
    Number,
    Unread,
    call,
    decode,
    read_json,
    tree,
    visible,
    write_json,
)


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was run",)


def test_a_pickle_is_never_run():
    data = pickle.dumps(Bomb())
    value = decode(data, len(data), "application/x-python-serialize")
    assert isinstance(value, Unread)
    assert "application/x-python-serialize" in value.why


@pytest.mark.parametrize("data", [b"\x00\xff", b"{", b"[" * 100_000, b'"\xed"', b"\x1f\x8b\x08"])
def test_what_is_not_json_is_told_by_its_size(data):
    value = decode(data, len(data), "application/json")
    assert isinstance(value, Unread)
    assert "only plain JSON" in value.why


def test_nothing_is_not_null():
    assert decode(None, None, None) is ABSENT
    assert decode(b"null", 4, "application/json") is None


def test_what_was_not_fetched_is_told_by_its_size():
    assert decode(None, 10_000_000, "x") == Unread("10 MB: too large to be shown here")


def test_numbers_come_out_as_they_went_in():
    text = '{"big": 1180591620717411303424, "one": 1.0, "huge": 1e400, "not": NaN, "long": %s}'
    text %= "9" * 5000  # more digits than Python converts
    value = read_json(text)
    assert json.dumps(write_json(value)).count("9") >= 5000
    assert "1180591620717411303424" in write_json(value)
    assert "1e400" in write_json(value)
    assert tree(value).items[0] == Item("big", "number", "1180591620717411303424")


def test_what_is_written_is_read_again():
    value = read_json(
        '{"a": [1, 2.50, {"b": [], "c": {}}], "d": "x\\u0000\\ud800", "e": [true, null]}'
    )
    assert read_json(write_json(value)) == value
    assert read_json(write_json({"a": HIDDEN})) == {"a": "[hidden]"}


def test_a_tree_has_the_kinds_of_its_values():
    item = tree({"s": "x", "n": Number("1"), "t": True, "z": None, "l": [1], "h": HIDDEN})
    assert [(each.label, each.kind) for each in item.items] == [
        ("s", "text"), ("n", "number"), ("t", "word"), ("z", "word"), ("l", "list"),
        ("h", "hidden"),
    ]  # fmt: skip
    assert item.size == 6


def test_celerys_markers_are_one_value():
    item = tree({"at": {"__type__": "datetime", "__value__": "2026-11-24T10:00:00"}})
    assert item.items[0] == Item("at", "typed", "datetime 2026-11-24T10:00:00")


def test_a_tree_is_bounded_whatever_it_is_made_of():
    assert len(tree(["x"] * 1000).items) == MOST_ENTRIES + 1
    assert tree(["x"] * 1000).items[-1].text == "900 more"
    text = tree("a" * 1_000_000)
    assert (len(text.text), text.size) == (2000, 998_000)
    wide: Any = ["leaf"]
    for _ in range(6):
        wide = [wide] * 50
    assert _count(tree(wide)) < 3 * MOST_ITEMS
    deep: Any = []
    for _ in range(900):
        deep = [deep, 1]
    assert _count(tree(deep)) < 200


def _count(item: Item) -> int:
    return 1 + sum(map(_count, item.items))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a\\x00b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("x\u202ey", "x\\u202ey"),
        ("x\u2066y\u200f", "x\\u2066y\\u200f"),
        ("\ud800", "\\ud800"),
        ("line\n\tnext", "line\n\tnext"),
        ("مرحبا 👩\u200d💻", "مرحبا 👩\u200d💻"),
        ("<script>", "<script>"),
        ("\u2028", "\\u2028"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_invisible_characters_can_be_seen(text, shown):
    assert visible(text) == shown
    visible(text).encode()


def test_a_call_is_a_test_that_python_reads():
    values = read_json(
        '[[1, "a\'b", {"x": [null, true]}, 1180591620717411303424, NaN], {"to": "ann"}]'
    )
    text = call("shop.tasks.charge", values[0], values[1])
    compile(text, "test", "exec")
    assert "from shop.tasks import charge" in text
    assert "1180591620717411303424" in text
    assert "kwargs={'to': 'ann'}" in text
    compile(call("a-b c", [], {}), "test", "exec")
    assert "app.tasks['a-b c']" in call("a-b c", [], {})
    compile(call("charge", [HIDDEN], {}), "test", "exec")
