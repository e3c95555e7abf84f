from feeds.errors import DecodeError, excerpt, keys_text


def test_an_excerpt_is_printable_and_says_what_was_cut():
    assert excerpt(b"short") == "short"
    assert excerpt(b"\xff\x00a") == "\\xff\x00a"
    assert excerpt(b"x" * 200) == "x" * 120 + "... (200 bytes)"


def test_a_decode_error_carries_the_payload_and_shows_its_start():
    error = DecodeError("x: expected a, found b", kind="k", payload=b"{}")
    assert (str(error), error.kind, error.payload) == ("x: expected a, found b: {}", "k", b"{}")
    assert str(DecodeError("x" * 1000, kind="k")) == "x" * 500 + "..."


def test_keys_are_named_where_they_can_be():
    assert keys_text(b'{"b":1,"a":[]}') == "['a', 'b']"
    for damaged in (b"", b"[]", b'{"a":1', b'{"\xff":1}', b'{"a":' * 10_000):
        assert keys_text(damaged) == "none that can be read"
