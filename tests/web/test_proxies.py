"""Which proxies are trusted, and the path that they show the page at."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgjobs_celery.errors import InvalidOption
from pgjobs_celery.web.proxies import PEER, BehindProxy, check_prefix, peer_of, read_networks


@pytest.mark.parametrize(
    ("networks", "peer", "is_in"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.1/8", "10.9.9.9", True),
        ("10.0.0.0/8, 192.168.1.1", "192.168.1.1", True),
        (["fd00::/8"], "fd00::1", True),
        (["fd00::/8"], "10.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("unix", "unix", True),
        ("10.0.0.0/8", "unix", False),
        ("10.0.0.0/8", "not an address", False),
        ("", "127.0.0.1", False),
    ],
)
def test_an_address_is_in_a_network_or_not(networks, peer, is_in):
    assert (peer in read_networks(networks)) is is_in


@pytest.mark.parametrize("given", ["10.0.0.0/33", "example.com", "10.0.0"])
def test_what_is_no_network_is_refused(given):
    with pytest.raises(InvalidOption, match=r"10\.0\.0\.0/8"):
        read_networks(given)


@pytest.mark.parametrize(("given", "prefix"), [("", ""), ("/", ""), ("/a/b/", "/a/b")])
def test_a_prefix_is_a_path_without_its_last_slash(given, prefix):
    assert check_prefix(given) == prefix


@pytest.mark.parametrize(
    "given", ["jobs", "//evil.com", "/a b", "/a\r\nX: y", "/a;b", '/"', "/a?b", "https://x"]
)
def test_what_is_no_path_is_no_prefix(given):
    with pytest.raises(InvalidOption, match="a path such as /jobs"):
        check_prefix(given)


def asked(path: str, headers: dict[str, str] | None = None, **options: Any) -> tuple[str, str]:
    """``root_path`` and ``path`` as the page gets them."""
    seen: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {
        "type": "http",
        "path": path,
        "client": ("10.0.0.1", 1),
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    trusted = read_networks(options.pop("trust", "10.0.0.0/8"))
    asyncio.run(BehindProxy(page, trusted, **options)(scope, None, None))  # type: ignore[arg-type]
    assert seen[0][PEER] == "10.0.0.1"
    return seen[0]["root_path"], seen[0]["path"]


FORWARDED = {"x-forwarded-prefix": "/ops"}


@pytest.mark.parametrize(
    ("path", "headers", "options", "expected"),
    [
        ("/jobs", {}, {}, ("", "/jobs")),
        ("/jobs/jobs", {}, {"prefix": "/jobs"}, ("/jobs", "/jobs/jobs")),
        ("/jobs", {}, {"prefix": "/jobs", "strips": True}, ("/jobs", "/jobs/jobs")),
        ("/health", {}, {"prefix": "/jobs"}, ("/jobs", "/health")),
        ("/jobs", FORWARDED, {}, ("/ops", "/ops/jobs")),
        ("/jobs", FORWARDED, {"trust": "192.168.0.0/16"}, ("", "/jobs")),
        ("/jobs", {"x-forwarded-prefix": "//evil.com"}, {}, ("", "/jobs")),
    ],
)
def test_the_page_knows_its_prefix(path, headers, options, expected):
    assert asked(path, headers, **options) == expected


def test_the_peer_is_whom_the_request_came_from():
    assert peer_of({"client": ("10.0.0.1", 80)}) == "10.0.0.1"
    assert peer_of({"client": ("203.0.113.9", 0), PEER: "10.0.0.1"}) == "10.0.0.1"
    assert peer_of({"client": None}) == peer_of({"client": ("", 0)}) == "unix"
