from __future__ import annotations

import pytest

from picows import WSInvalidURL, parse_url


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "resource"),
    [
        ("ws://example.com", False, "example.com", 80, "/"),
        ("wss://example.com", True, "example.com", 443, "/"),
        ("WSS://Example.COM:8443/Path", True, "example.com", 8443, "/Path"),
        ("ws://example.com?x=1", False, "example.com", 80, "/?x=1"),
        ("ws://example.com/a/b?x=1&y=/2", False, "example.com", 80, "/a/b?x=1&y=/2"),
        ("ws://[::1]:9/x", False, "::1", 9, "/x"),
        ("ws://bücher.example/ü?q=ü x", False, "xn--bcher-kva.example", 80, "/%C3%BC?q=%C3%BC%20x"),
        ("ws://h/already%20encoded", False, "h", 80, "/already%20encoded"),
        ("ws://h/?streams=btcusdt@depth/btcusdt@trade", False, "h", 80, "/?streams=btcusdt@depth/btcusdt@trade"),
    ],
)
def test_parts(url, secure, host, port, resource):
    parsed = parse_url(url)
    assert (parsed.is_secure, parsed.host, parsed.port, parsed.resource_name) == (secure, host, port, resource)
    assert parsed.scheme == ("wss" if secure else "ws")
    assert parsed.url == url


def test_user_info_is_decoded():
    parsed = parse_url("ws://me:p%40ss@h/")
    assert (parsed.username, parsed.password, parsed.user_info) == ("me", "p@ss", ("me", "p@ss"))
    assert parsed.netloc == "me:p%40ss@h"
    assert parse_url("ws://me@h/").user_info is None
    assert parse_url("ws://h/").user_info is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h/", "expected scheme ws or wss, found 'http'"),
        ("h", "expected scheme ws or wss, found ''"),
        ("", "expected scheme ws or wss, found ''"),
        ("ws:///x", "has no host"),
        ("ws://:80/", "has no host"),
        ("ws://h/#", "has a fragment"),
        ("ws://h/#f", "has a fragment"),
        ("ws://h:99999/", "Port out of range"),
        ("ws://h:ab/", "Port could not be cast"),
        ("ws://[::1/", "Invalid IPv6 URL"),
        ("ws://h/a\r\nX: y", "contains control characters"),
        ("ws://a b/", "contains a space"),
        ("ws://" + "ü" * 80 + "/", "cannot be IDNA-encoded"),
    ],
)
def test_urls_that_name_no_websocket(url, problem):
    with pytest.raises(WSInvalidURL, match=problem) as info:
        parse_url(url)
    assert info.value.url == url


def test_other_schemes_where_they_are_wanted():
    assert parse_url("https://h/", check_scheme=False).port == 443
    assert parse_url("http://h/", check_scheme=False).port == 80
