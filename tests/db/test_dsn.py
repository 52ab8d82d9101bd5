"""A URL is libpq's from the scheme on, and nothing that is shown of it tells a secret."""

from __future__ import annotations

import copy
import pickle
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from pgjobs_celery.db.dsn import SCHEMES, Target, describe, hide_secrets, parse_url
from pgjobs_celery.errors import InvalidURL

#: Starts with letters that stand in nothing else, so that any piece of it can be told.
PIECES = st.text(st.sampled_from("§QJX"), min_size=3, max_size=6)
BETWEEN = st.text(st.sampled_from("/@:?#&=%,[] +\\'\"1"), max_size=3)


@st.composite
def secrets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A secret, and the pieces of it that must not show."""
    pieces = draw(st.lists(PIECES, min_size=1, max_size=3))
    secret = pieces[0]
    for piece in pieces[1:]:
        secret += draw(BETWEEN) + piece
    return secret, pieces


def shown_by(url: str) -> str:
    """Everything that anybody gets to see of a URL."""
    shown = [hide_secrets(url)]
    try:
        target = Target(url)
        shown += [str(target), repr(target), f"{target}", describe(target.conninfo)]
    except InvalidURL as error:
        shown += [str(error), repr(error), str(error.__cause__)]
        if not error.__suppress_context__:
            shown.append(str(error.__context__))
    return "\n".join(shown)


@pytest.mark.parametrize(
    ("url", "params"),
    [
        ("pgjobs://app@db/app", {"user": "app", "host": "db", "dbname": "app"}),
        ("pgjobs://a:p%40w@db:1/x", {"user": "a", "password": "p@w", "host": "db", "port": "1",
                                     "dbname": "x"}),
        ("pgjobs://h1:1,h2:2/x?target_session_attrs=read-write",
         {"host": "h1,h2", "port": "1,2", "dbname": "x", "target_session_attrs": "read-write"}),
        ("pgjobs:///x?host=/var/run&sslmode=require",
         {"host": "/var/run", "dbname": "x", "sslmode": "require"}),
        ("pgjobs://[::1]:5433/x", {"host": "::1", "port": "5433", "dbname": "x"}),
        ("pgjobs://?service=app", {"service": "app"}),
        ("pgjobs://", {}),
    ],
)  # fmt: skip
def test_everything_behind_the_scheme_is_libpqs(url, params):
    assert conninfo_to_dict(parse_url(url)) == params


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_leads_to_the_same_place(scheme):
    assert parse_url(f"{scheme}://app@db/app") == parse_url("pgjobs://app@db/app")


@pytest.mark.parametrize(
    "url", ["", "pgjobs", "redis://h/0", "host=db dbname=x", "://", "pgjobs:/h"]
)
def test_what_is_no_pgjobs_url_is_refused_with_an_example(url):
    with pytest.raises(InvalidURL, match="write pgjobs://user@host:5432/database"):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("pgjobs://h/x?nonsense=1", "invalid URI query parameter"),
        ("pgjobs://h/x?sslmode", "missing key/value separator"),
        ("pgjobs://[::1/x", "end of string reached"),
        ("pgjobs://h/%zz", "invalid percent-encoded token"),
    ],
)
def test_a_uri_that_libpq_cannot_read_is_refused_with_its_reason(url, reason):
    with pytest.raises(InvalidURL, match=reason):
        parse_url(url)


@pytest.mark.parametrize("password", ["p@w", "p/w", "p:w/x", "1/x", "a/b@c"])
def test_a_password_that_is_not_escaped_is_named_as_the_likely_reason(password):
    with pytest.raises(InvalidURL, match="%2F, %40, %3A"):
        parse_url(f"pgjobs://app:{password}@db/app")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("pgjobs://app:secret@db/app", "pgjobs://app:**@db/app"),
        ("pgjobs://app:@db/app", "pgjobs://app:**@db/app"),
        ("pgjobs://app@db:1,c:2/app?sslmode=require", "pgjobs://app@db:1,c:2/app?sslmode=require"),
        ("pgjobs:///app?host=/tmp&password=x&user=u", "pgjobs:///app?host=/tmp&password=**&user=u"),
        ("pgjobs://[::1]:5/x", "pgjobs://[::1]:5/x"),
        ("pgjobs://app:se/cret@db/app", "pgjobs://**"),
        ("pgjobs://db/x?user=a&password=b@c", "pgjobs://**"),
        ("pgjobs://h/x?pass%77ord=y", "pgjobs://h/x?pass%77ord=**"),
        ("password=x host=db", "**"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_url_is_shown_as_far_as_it_tells_no_secret(url, shown):
    assert hide_secrets(url) == shown


@given(secrets(), st.sampled_from(["", "@db", "@db/app", "@db:1/app?sslmode=require", "@h1,h2/x"]))
@example(("QQQ?host=JJJ", ["QQQ", "JJJ"]), "@db/app")
@example(("QQQ/1@JJJ", ["QQQ", "JJJ"]), "@db/app")
def test_no_piece_of_a_password_shows_escaped_or_not(secret, rest):
    text, pieces = secret
    assume(rest or not {*":@"} & {*text})  # or the rest of it is the host
    for password in (quote(text, safe=""), text):
        shown = shown_by(f"pgjobs://app:{password}{rest}")
        assert not [piece for piece in pieces if piece in shown or quote(piece) in shown], shown


@given(
    secrets(),
    st.sampled_from(["password", "sslpassword", "pass%77ord", "passfile", "sslkey"]),
    st.sampled_from(["pgjobs://db/app?", "pgjobs://u@db/app?sslmode=require&", "pgjobs://?"]),
    st.sampled_from(["", "&user=u", "&host=h"]),
)
def test_no_piece_of_a_secret_parameter_shows(secret, name, before, after):
    text, pieces = secret
    for value in (quote(text, safe=""), text):
        shown = shown_by(f"{before}{name}={value}{after}")
        assert not [piece for piece in pieces if piece in shown or quote(piece) in shown], shown


@given(st.text(max_size=60))
def test_whatever_is_given_only_an_invalid_url_is_raised(text):
    for url in (text, f"pgjobs://{text}"):
        shown_by(url)


def test_a_target_is_fit_to_be_shown_and_keeps_its_secret_through_copies():
    target = Target("pgjobs://app:secret@db/app")
    assert str(target) == "app@db/app"
    for one in (
        target,
        copy.copy(target),
        copy.deepcopy(target),
        pickle.loads(pickle.dumps(target)),
    ):
        assert one == "app@db/app"
        assert conninfo_to_dict(one.conninfo)["password"] == "secret"


@pytest.mark.parametrize(
    ("conninfo", "where"),
    [
        ("user=app password=x host=db port=1 dbname=d", "app@db:1/d"),
        ("hostaddr=10.0.0.1 dbname=d", "10.0.0.1/d"),
        ("", "local socket/"),
    ],
)
def test_a_description_says_where_a_connection_leads(conninfo, where):
    assert describe(conninfo) == where
