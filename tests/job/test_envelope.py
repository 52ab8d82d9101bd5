"""A message comes back as it was published, whatever is in it; what cannot be kept is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.errors import BodyTooLarge, MessageRefused, UndecodableRow
from pgjobs_celery.job.envelope import (
    decode_envelope,
    encode_body,
    encode_envelope,
    is_durable,
    is_job,
    job_options,
    moment,
    rank,
    time_to_live,
    to_job,
)
from pgjobs_celery.job.properties import PROPERTIES
from pgjobs_celery.job.rows import HIGHEST_RANK

UTC = timezone.utc

#: NUL and halves of letters included.
texts = st.text(st.characters(), max_size=20)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
#: What kombu's JSON knows besides.
typed = (
    st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
)
keys = texts.filter(lambda key: key != "__type__")


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
    )


def message(body: Any = b"[]", **parts: Any) -> dict[str, Any]:
    given = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {},
    }
    return {**given, **{name.replace("_", "-"): value for name, value in parts.items()}}


def there_and_back(given: dict[str, Any]) -> Any:
    text = encode_envelope(given, "", "q")
    assert "\0" not in text
    text.encode()
    return decode_envelope(text, "q")


# -- envelopes -----------------------------------------------------------------------------------


@given(st.dictionaries(keys, nested(plain), max_size=5))
def test_headers_come_back_as_they_went(headers):
    assert there_and_back(message(headers=headers)).headers == headers


@given(st.dictionaries(keys, nested(plain | typed), max_size=5))
def test_headers_that_only_kombus_json_knows_come_back_too(headers):
    assert there_and_back(message(headers=headers)).headers == headers


@given(st.dictionaries(st.sampled_from(sorted(PROPERTIES)), nested(plain | typed)))
def test_properties_come_back_but_for_those_of_another_transports_delivery(properties):
    envelope = there_and_back(message(properties={**properties, "own": 1, "delivery_tag": 2}))
    assert envelope.properties == {**properties, "own": 1}


def test_numbers_that_are_none_survive():
    headers = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "big": 10**40}
    back = there_and_back(message(headers=headers)).headers
    assert math.isnan(back.pop("nan"))
    assert back == {"inf": math.inf, "minus": -math.inf, "big": 10**40}


def test_a_text_that_looks_like_kombus_marker_is_left_alone():
    headers = {"a": '"__type__"', "b": '{"__type__": "uuid", "__value__": {"hex": "0"}}'}
    assert there_and_back(message(headers=headers)).headers == headers


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), date(2026, 1, 2), UUID(int=5), Decimal("1.10")]
)
def test_the_types_of_kombus_json_keep_their_type(value):
    back = there_and_back(message(headers={"x": [value]})).headers["x"][0]
    assert (type(back), back) == (type(value), value)


def test_content_type_exchange_and_routing_key_are_kept():
    given = message(content_type="application/x-yaml", content_encoding=None, headers=None)
    envelope = decode_envelope(encode_envelope(given, "", "q"), "other")
    assert envelope[:2] == ("application/x-yaml", None)
    assert (envelope.headers, envelope.exchange, envelope.routing_key) == ({}, "", "other")
    envelope = decode_envelope(encode_envelope(given, "x", "a.b"), "other")
    assert (envelope.exchange, envelope.routing_key) == ("x", "a.b")


def test_a_header_that_json_cannot_hold_is_refused_with_the_reason():
    with pytest.raises(MessageRefused, match=r"cannot be written as JSON: .*object"):
        encode_envelope(message(headers={"x": object()}), "", "q")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "null", "1", "{}", '{"headers": {}}', '"text"',
        '{"content-type": "a", "content-encoding": "b", "headers": 1, "properties": {}}',
        '{"content-type": "a", "content-encoding": "b", "headers": {}, "properties": null}',
    ],
)  # fmt: skip
def test_a_row_that_is_no_message_is_undecodable_and_nothing_else(text):
    with pytest.raises(UndecodableRow):
        decode_envelope(text, "q")


@given(st.text(max_size=60) | nested(plain).map(json.dumps))
def test_whatever_stands_in_a_row_only_undecodable_is_raised(text):
    with suppress(UndecodableRow):
        decode_envelope(text, "q")


# -- bodies --------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_bytes_are_kept_byte_for_byte(body):
    assert encode_body(message(body), 1000) == body
    assert encode_body(message(bytearray(body)), 1000) == body
    assert encode_body(message(memoryview(body)), 1000) == body


@given(texts, st.sampled_from(["utf-8", None, "binary", "BINARY", "ascii-8bit"]))
def test_text_is_utf_8_halves_of_letters_included(body, encoding):
    encoded = encode_body(message(body, content_encoding=encoding), 1000)
    assert encoded.decode("utf-8", "surrogatepass") == body


def test_text_is_encoded_as_it_says():
    assert encode_body(message("ä", content_encoding="latin-1"), 10) == b"\xe4"
    for encoding in ("ascii", "no-such-encoding"):
        with pytest.raises(MessageRefused, match=f"cannot be encoded as '{encoding}'"):
            encode_body(message("ä", content_encoding=encoding), 10)


def test_no_body_is_an_empty_one():
    assert encode_body(message(None), 10) == b""


def test_a_body_may_have_the_size_that_is_allowed_and_no_byte_more():
    assert len(encode_body(message(b"x" * 10), 10)) == 10
    with pytest.raises(BodyTooLarge, match="11 bytes, more than max_body_size"):
        encode_body(message(b"x" * 11), 10)
    with pytest.raises(BodyTooLarge, match=r"1,000 bytes.*pass a reference"):
        encode_body(message("ä" * 500), 999)


# -- what is read out of it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "job"),
    [
        ({"task": "t", "id": "i"}, True), ({"task": "t"}, False), ({"id": "i"}, False),
        ({"task": "", "id": "i"}, False), ({}, False), (None, False),
    ],
)  # fmt: skip
def test_a_job_is_what_celerys_protocol_2_makes_one(headers, job):
    assert is_job(message(headers=headers)) is job


@pytest.mark.parametrize(("mode", "durable"), [(1, False), (2, True), (None, True)])
def test_what_may_be_lost_says_so(mode, durable):
    properties = {} if mode is None else {"delivery_mode": mode}
    assert is_durable(message(properties=properties)) is durable


@pytest.mark.parametrize(
    ("expiration", "seconds"), [(None, None), ("1500", 1.5), (250, 0.25), ("0", 0.0)]
)
def test_an_expiration_is_in_milliseconds(expiration, seconds):
    assert time_to_live(message(properties={"expiration": expiration})) == seconds


@pytest.mark.parametrize("expiration", ["soon", "1.5", [], math.inf, math.nan, {}])
def test_an_expiration_that_is_none_is_refused(expiration):
    with pytest.raises(MessageRefused, match="milliseconds"):
        time_to_live(message(properties={"expiration": expiration}))


@pytest.mark.parametrize(
    ("priority", "asc"),
    [(None, 0), (0, 0), (9, 9), (255, 255), (256, 255), (-1, 0), ("7", 7), (3.9, 3), (True, 1),
     ("high", 0), ([], 0), (math.inf, 0), (math.nan, 0), (10**30, 255)],
)  # fmt: skip
def test_a_priority_is_a_rank_whatever_it_is(priority, asc):
    assert rank(priority, "asc") == asc
    assert rank(priority, "desc") == HIGHEST_RANK - asc


def berlin() -> timezone:
    return timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (None, None),
        ("2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.678901Z", datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        (datetime(2026, 1, 2, 3), datetime(2026, 1, 2, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=UTC)),
        ("tomorrow", None), ("", None), (5, None), ([], None),
    ],
)  # fmt: skip
def test_a_time_has_the_zone_it_names_or_that_of_the_app(value, at):
    assert moment(value, berlin) == at


def as_job(headers: dict[str, Any], queue: str = "q", **parts: Any):
    published = message(headers={"task": "t", "id": "i", **headers}, **parts)
    return to_job(
        published,
        queue,
        job_options(published),
        exchange="",
        routing_key=queue,
        order="asc",
        max_body_size=100,
        timezone=berlin,
    )


def test_a_job_has_the_columns_of_its_row():
    job = as_job(
        {"root_id": "r", "parent_id": UUID(int=1), "group": "g", "eta": "2026-01-02T03:00:00",
         "expires": "2026-01-03T00:00:00Z"},
        properties={"priority": 4},
    )  # fmt: skip
    assert (job.task_id, job.task, job.queue, job.priority) == ("i", "t", "q", 4)
    assert (job.root_id, job.parent_id, job.group_id) == ("r", str(UUID(int=1)), "g")
    assert job.eta == datetime(2026, 1, 2, 2, tzinfo=UTC)
    assert job.expires_at == datetime(2026, 1, 3, tzinfo=UTC)
    assert as_job({}).root_id is None


@pytest.mark.parametrize("name", ["id", "task", "root_id", "parent_id", "group"])
@pytest.mark.parametrize(("text", "reason"), [("a\0b", "NUL"), ("\ud800", "valid Unicode")])
def test_a_name_or_id_that_cannot_stand_in_a_row_is_refused(name, text, reason):
    with pytest.raises(MessageRefused, match=reason):
        as_job({name: text})


def test_so_is_a_queue_of_such_a_name():
    with pytest.raises(MessageRefused, match="NUL"):
        as_job({}, queue="a\0")


def test_a_name_or_id_has_a_length_that_an_index_and_a_notification_can_carry():
    assert as_job({"id": "ä" * 500}).task_id == "ä" * 500
    with pytest.raises(MessageRefused, match="may have 1,000 bytes, not 1,002"):
        as_job({"id": "ä" * 501})
