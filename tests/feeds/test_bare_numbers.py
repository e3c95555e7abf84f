import pytest
from msgspec import Raw

from feeds.bare_numbers import given


@pytest.mark.parametrize("text", [b"", b"null"])
def test_what_is_not_there_is_none(text):
    assert given(Raw(text)) is None


@pytest.mark.parametrize("text", [b"0", b"1e-7", b"-1.50", b'"1.5"'])
def test_a_number_stays_as_it_is(text):
    assert bytes(given(Raw(text))) == text
