"""What is hidden, and what is not: tables of pure functions."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra web is not installed")

from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web.redact import HIDDEN, MASK, MOST_HIDDEN, Redaction, Redactor
from pgjobs_celery.web.values import Number, read_json


def redactor(**options: Any) -> Redactor:
    return Redaction(**options).of("mail.send")


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db_password", "dbPassword", "password2", "user-passwd", "secret",
        "client_secret", "api_key", "apiKey", "API-KEY", "apikey", "x-api-key", "authorization",
        "Authorization", "access_token", "refreshToken", "XAuthToken", "private_key", "Set-Cookie",
        "card_cvv", "session_id", "credentials",
    ],
)  # fmt: skip
def test_a_secret_key_is_told_by_its_words(key):
    assert redactor().value("kwargs", {key: "v4lue"}) == {key: HIDDEN}


@pytest.mark.parametrize(
    "key",
    [
        "user",
        "max_tokens",
        "token_count",
        "key",
        "author",
        "keyboard",
        "api",
        "passing",
        "pink",
        "",
    ],
)
def test_a_key_that_only_looks_like_one_is_shown(key):
    assert redactor().value("kwargs", {key: "v4lue"}) == {key: "v4lue"}


def test_secrets_are_found_wherever_they_stand():
    given = {"users": [{"name": "Ann", "password": {"old": "a1b2", "new": ["c3d4"]}}]}
    shown = redactor().value("result", given)
    assert shown == {"users": [{"name": "Ann", "password": HIDDEN}]}
    assert given["users"][0]["password"] != HIDDEN, "the value itself is changed"


def test_nothing_and_truth_are_no_secrets():
    given = {"password": None, "token": "", "secret": False}
    assert redactor().value("kwargs", given) == given


def test_positional_arguments_are_known_by_the_parameters_of_their_task():
    assert redactor().args(["ann", "s3cret"], ["user", "password"]) == ["ann", HIDDEN]
    assert redactor().args(["ann", "s3cret"]) == ["ann", "s3cret"]
    assert redactor().args([1, 2, 3], ["a"]) == [1, 2, 3]


def test_what_was_hidden_is_hidden_in_texts():
    hides = redactor()
    hides.value("kwargs", {"password": "hunter2\n'x", "pin": Number("123456")})
    assert hides.text("login of ann with hunter2\n'x failed") == f"login of ann with {MASK} failed"
    assert hides.text(repr("hunter2\n'x")) == f'"{MASK}"'
    assert hides.text("pin 123456 is wrong") == f"pin {MASK} is wrong"


def test_the_beginning_of_a_secret_before_a_cut_is_hidden():
    hides = redactor()
    hides.value("kwargs", {"token": "abcdefghijkl"})
    assert hides.text("it was abcdefg...") == f"it was {MASK}..."
    assert hides.text("it was abc...") == "it was abc..."


def test_the_long_beginning_of_a_long_secret_before_a_cut_is_hidden():
    hides = redactor()
    secret = "".join(map(str, range(2000)))
    hides.value("kwargs", {"token": secret})
    for length in (500, 1500, 5000):
        assert hides.text(f"it was {secret[:length]}... and more") == f"it was {MASK}... and more"


def test_a_secret_is_hidden_in_what_stands_before_it():
    given = {"note": "log in with hunter2", "password": "hunter2"}
    assert redactor().value("kwargs", given)["note"] == f"log in with {MASK}"


def work(text: str, secrets: int = 0) -> float:
    """The seconds of this thread that a text takes to be looked through, without others' noise."""

    def once() -> float:
        hides = redactor()
        hides.value("kwargs", {"token": [text[4 * n :] for n in range(secrets)]})
        begin = time.thread_time()
        hides.text(f"{text}...")
        return time.thread_time() - begin

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    ("text", "secrets"),
    [("-eyJ", 0), ("-eyJ-", 0), ("eyJ.", 0), ("Bearer ", 0), ("a://", 0), ("abcd...", 0),
     ("----- BEGIN", 0), ("abcd", 2)],
)  # fmt: skip
def test_the_time_to_look_through_a_text_grows_as_the_text_does(text, secrets):
    few, many = work(text * 1000, secrets), work(text * 8000, secrets)
    assert many < 24 * max(few, 0.0005), "eight times the text took the square of that"


def test_short_texts_do_not_pay_for_each_secret():
    def once(secrets: int) -> float:
        hides = redactor()
        hides.value("kwargs", {"token": [f"t{n:03d}" for n in range(secrets)]})
        begin = time.thread_time()
        shown = hides.args([*["abcd"] * 20_000, "a t000!"])
        assert shown[-1] == f"a {MASK}!"
        return time.thread_time() - begin

    assert min(once(200) for _ in range(3)) < 5 * min(once(1) for _ in range(3))


def test_where_not_all_secrets_are_remembered_no_text_is_shown():
    hides = redactor()
    tokens = [f"token-{n}" for n in range(MOST_HIDDEN)]
    hides.value("kwargs", {"tokens": tokens})
    assert hides.text("it was token-7!") == f"it was {MASK}!"
    hides.value("kwargs", {"tokens": [*tokens, "last-one"]})
    assert hides.text("it was last-one") == MASK
    assert hides.spelled("last-one") == MASK
    assert hides.value("result", ["last-one", 1]) == [MASK, 1]
    assert hides.traceback('  File "a.py", line 1\n    last-one') == '  File "a.py", line 1'
    deep: Any = "deepest-one"
    for _ in range(80):
        deep = [deep]
    hides = redactor()
    hides.value("kwargs", {"token": deep})
    assert hides.text("it was deepest-one") == MASK


def test_what_is_secret_in_one_part_is_so_in_the_others():
    hides = redactor()
    args, kwargs = hides.given(["login with s3cret!"], {"password": "s3cret!", "n": Number("1")})
    assert args == [f"login with {MASK}"]
    assert kwargs == {"password": HIDDEN, "n": "1"}
    assert hides.value("result", {"exc_message": ["bad s3cret!"]}) == {
        "exc_message": [f"bad {MASK}"]
    }


def test_short_secrets_are_not_looked_for_in_texts():
    hides = redactor()
    hides.value("kwargs", {"password": "a"})
    assert hides.text("a man") == "a man"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:s3cret@db:5432/app", f"postgresql://app:{MASK}@db:5432/app"),
        ("redis://:s3cret@cache", f"redis://:{MASK}@cache"),
        ("Authorization: Bearer abcdef123456", f"Authorization: Bearer {MASK}"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abc-_1", MASK),
        ("session-eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abc", f"session-{MASK}"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
            f"a\n{MASK}\nb",
        ),
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("at 12:30 ann@example.com", "at 12:30 ann@example.com"),
    ],
)
def test_secrets_that_tell_what_they_are_are_hidden_everywhere(text, shown):
    assert redactor().text(text) == shown
    assert redactor().value("result", {"note": text}) == {"note": shown}
    assert redactor().args([[text]]) == [[shown]]


def test_a_task_may_have_keys_of_its_own():
    hides = Redaction(tasks={"mail.*": ["to", "subject"]})
    assert hides.of("mail.send").value("kwargs", {"to": "ann", "n": "1"}) == {
        "to": HIDDEN,
        "n": "1",
    }
    assert hides.of("shop.send").value("kwargs", {"to": "ann"}) == {"to": "ann"}


def test_all_of_a_task_may_be_hidden():
    hides = Redaction(tasks={"mail.send": True}).of("mail.send")
    assert hides.args(["ann", 1]) == [HIDDEN, HIDDEN]
    assert hides.value("kwargs", {"to": "ann"}) == {"to": HIDDEN}
    assert hides.value("result", {"sent": "ann"}) == HIDDEN
    assert hides.text("ann is not known") == MASK
    shown = hides.traceback(
        'Traceback (most recent call last):\n  File "a.py", line 1\n    ann\nE: ann'
    )
    assert shown == 'Traceback (most recent call last):\n  File "a.py", line 1'


def test_a_hook_has_the_last_word():
    def hook(task: str, part: str, value: Any) -> Any:
        return {"seen": [task, part]} if part == "kwargs" else value

    assert redactor(hook=hook).value("kwargs", {"a": 1}) == {"seen": ["mail.send", "kwargs"]}
    assert redactor(hook=hook).value("meta", {"a": 1}) == {"a": 1}


def test_words_of_ones_own_take_the_place_of_ours():
    shown = redactor(keys=["iban"]).value("kwargs", {"iban": "DE00", "password": "open"})
    assert shown == {"iban": HIDDEN, "password": "open"}


def test_a_text_in_place_of_words_is_refused():
    with pytest.raises(InvalidOption, match="a list of words"):
        Redaction(keys="password")
    with pytest.raises(InvalidOption, match="'mail'"):
        Redaction(tasks={"mail": "to"})


def test_what_is_too_deep_to_be_looked_at_is_hidden():
    value: Any = {"password": "s3cret"}
    for _ in range(80):
        value = [value]
    assert "s3cret" not in repr(redactor().value("result", value))
    assert redactor().value("kwargs", {"token": value}) == {"token": HIDDEN}


def test_numbers_stay_as_they_are():
    value = read_json(b'{"n": 1180591620717411303424, "x": 1e400}')
    shown = redactor().value("result", value)
    assert isinstance(shown["n"], Number)
    assert shown["n"] == "1180591620717411303424"
