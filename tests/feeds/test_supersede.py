"""Patterns of keys; what they find is tested with the exchanges that declare them (`exchanges/test_superseding.py`)."""

import pytest

from feeds.supersede import SupersedeKey


def test_a_pattern_has_a_name_and_leaves_open_what_a_brace_ends():
    assert SupersedeKey(b'{"t":#,"s":"*",...}').pattern == b'{"t":#,"s":"*",...}'


@pytest.mark.parametrize("pattern", [b"", b'{"a":"x",...}', b'{"a":"*"}', b'{"a":"*...}', b'{"a":"*",...]'])
def test_other_patterns_are_refused(pattern):
    with pytest.raises(ValueError, match="expected a message with a name"):
        SupersedeKey(pattern)
