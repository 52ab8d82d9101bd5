"""An envelope is read as it was published, whatever was left out of its row."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from pgjobs_celery.job.envelope import decode_envelope, encode_envelope

TASK_ID = "3f0f1d1e-9d6c-4d5a-8f5c-0d9d2e6b7a11"


def make_message(
    headers: dict[str, Any],
    properties: dict[str, Any],
    content: tuple[str | None, str | None] = ("application/json", "utf-8"),
) -> dict[str, Any]:
    return {
        "content-type": content[0], "content-encoding": content[1],
        "headers": headers, "properties": properties, "body": "[]",
    }  # fmt: skip


def celerys_message(**options: Any) -> dict[str, Any]:
    """A message as this release of Celery makes it."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    made = app.amqp.as_task_v2(TASK_ID, "shop.pay", (1,), {}, **options)
    return make_message(dict(made.headers), {**made.properties, "delivery_mode": 2, "priority": 0})


def read_back(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    envelope = decode_envelope(encode_envelope(message, "", "q"), "q")
    content = envelope.content_type, envelope.content_encoding
    assert content == (message["content-type"], message["content-encoding"])
    return envelope.headers, envelope.properties


def test_the_message_of_a_plain_task_is_stored_in_a_third_of_its_size():
    message = celerys_message(root_id=TASK_ID)
    text = encode_envelope(message, "", "q")
    whole = {name: message[name] for name in message if name != "body"}
    assert len(text) < 0.38 * len(json.dumps(whole))
    assert read_back(message) == (message["headers"], message["properties"])


def test_usual_values_are_not_shared_between_messages():
    text = encode_envelope(celerys_message(root_id=TASK_ID), "", "q")
    decode_envelope(text, "q").headers["stamps"]["mine"] = 1
    decode_envelope(text, "q").headers["timelimit"][0] = 5
    decode_envelope(text, "q").properties["delivery_mode"] = 1
    found = decode_envelope(text, "q")
    assert (found.headers["stamps"], found.headers["timelimit"]) == ({}, [None, None])
    assert found.properties["delivery_mode"] == 2


#: What a header may hold besides its usual value, its look-alikes among them.
VALUES = st.sampled_from([
    None, 0, False, 0.0, 2, 2.0, True, "", "py", [], {}, [None, None], [None], 3, "x", TASK_ID,
])  # fmt: skip
#: Types and encodings of a body.
CONTENTS = st.tuples(
    st.sampled_from([None, "", "application/json", "application/x-python-serialize"]),
    st.sampled_from([None, "", "utf-8", "binary"]),
)


@given(
    changed=st.dictionaries(st.sampled_from([*celerys_message()["headers"], "mine"]), VALUES),
    missing=st.sets(st.sampled_from([*celerys_message()["headers"]]), max_size=2),
    properties=st.dictionaries(
        st.sampled_from(["correlation_id", "reply_to", "priority", "delivery_mode"]), VALUES
    ),
    content=CONTENTS,
)
def test_whatever_a_message_holds_it_is_read_as_it_was_published(
    changed: dict[str, Any],
    missing: set[str],
    properties: dict[str, Any],
    content: tuple[str | None, str | None],
):
    message = celerys_message(root_id=TASK_ID)
    headers = {**message["headers"], **changed}
    for name in missing:
        headers.pop(name, None)
    found = read_back(make_message(headers, properties, content))
    assert repr_sorted(found) == repr_sorted((headers, properties))


def repr_sorted(parts: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    """Tells 0 from False and from 0.0, and does not look at the order of the names."""
    return [repr(sorted(part.items())) for part in parts]


def test_a_row_of_an_earlier_release_is_read_as_it_stands():
    text = json.dumps({
        "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "t", "id": "1"}, "properties": {},
    })  # fmt: skip
    envelope = decode_envelope(text, "q")
    assert (envelope.headers, envelope.properties) == ({"task": "t", "id": "1"}, {})
