import pytest

from feeds.errors import ConfigError
from feeds.subscription import CHANNELS, DEFAULT_CHANNELS, Subscription, subscriptions


def test_symbols_get_the_channels_and_subscriptions_keep_theirs():
    own = Subscription("B", ("trade",))
    assert subscriptions(["A", own], ["quote"]) == [Subscription("A", ("quote",)), own]
    assert subscriptions(["A"])[0].channels == DEFAULT_CHANNELS
    assert set(DEFAULT_CHANNELS) <= set(CHANNELS)


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        (("book", "trades"), r"found \['trades'\]"),
        ((), "found none"),
        (("book", "book_top"), "expected one of book and book_top"),
    ],
)
def test_channels_that_cannot_be_are_refused(channels, text):
    with pytest.raises(ConfigError, match=text):
        Subscription("A", channels)
