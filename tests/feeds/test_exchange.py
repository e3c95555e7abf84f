import msgspec
import pytest

from feeds.errors import ConfigError, FeedsError, UnknownExchange
from feeds.exchange import ConnectionPlan, Exchange, Topic, exchange, exchange_ids
from feeds.instrument import Instruments
from feeds.subscription import Subscription


def test_exchanges_are_found_by_their_modules():
    assert {"binance", "binance-delivery", "binance-futures"} <= set(exchange_ids())
    assert exchange_ids() == sorted(exchange_ids())


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_every_exchange_is_complete(exchange_id, instruments, log):
    found = exchange(exchange_id)
    assert found.id == exchange_id
    assert found.endpoints.ws.startswith("wss://")
    assert found.endpoints.rest.startswith("https://")
    assert found.instruments_urls
    assert found.channels
    assert found.new_sequence().last_id == -1
    decoder = found.new_decoder(instruments, log, reference=True)
    assert (decoder.exchange, decoder.reference, decoder.instruments) == (exchange_id, True, instruments)


@pytest.mark.parametrize("name", ["", "binance_futures", "os", "../binance", "Binance", "nowhere"])
def test_an_unknown_id_names_those_that_there_are(name):
    with pytest.raises(UnknownExchange, match=r"expected an exchange among .*binance-futures") as error:
        exchange(name)
    assert isinstance(error.value, ConfigError)
    assert isinstance(error.value, FeedsError)


# --- plans ----------------------------------------------------------------------------------------


class Small(Exchange):
    """Has room for few: a topic per channel, and one of all instruments for liquidations."""

    id = "small"
    channels = ("book", "trade", "liquidation")
    max_topics_per_connection = 3
    max_topics_per_message = 2

    def topics(self, instrument, channel):
        name = instrument.raw_symbol
        return [Topic("/ws", "all" if channel == "liquidation" else [channel, name])]

    def subscribe_message(self, path, args, number):
        return b"sub " + msgspec.json.encode(args)

    def subscribe_messages(self, path, args):
        return [b"hello", *super().subscribe_messages(path, args)]

    def unsubscribe_message(self, path, args, number):
        return b"unsub " + msgspec.json.encode(args)


@pytest.fixture
def planned():
    """planned(a="book trade", b="book") -> plans, from those that it returned before."""
    market, instruments, plans = Small(), Instruments(), []
    for name in "abcdef":
        instruments.add("small", name)

    def plan(**channels):
        wanted = [Subscription(name, tuple(text.split())) for name, text in channels.items()]
        before = list(plans)
        plans[:] = market.plan(wanted, instruments, before)
        return [p.args for p in plans], [
            market.change_messages(old, new) for old, new in zip(before, plans, strict=False) if new is not old
        ]

    return plan


def test_what_is_added_takes_the_room_that_there_is(planned):
    assert planned(a="book trade") == ([[["book", "a"], ["trade", "a"]]], [])
    args, messages = planned(a="book trade", b="book trade")
    assert args == [[["book", "a"], ["trade", "a"], ["book", "b"]], [["trade", "b"]]]
    assert messages == [[b'sub [["book","b"]]']]  # and not again what sets up the connection


def test_what_is_removed_leaves_room_for_the_next(planned):
    planned(a="book trade", b="book trade")
    args, messages = planned(b="book trade")
    assert args == [[["book", "b"]], [["trade", "b"]]]
    assert messages == [[b'unsub [["book","a"],["trade","a"]]']]
    args, messages = planned(b="trade", c="book")
    assert args == [[["book", "c"]], [["trade", "b"]]]
    assert messages == [[b'unsub [["book","b"]]', b'sub [["book","c"]]']]
    assert planned(b="trade")[0] == [[], [["trade", "b"]]]
    assert planned(b="trade", d="book")[0] == [[["book", "d"]], [["trade", "b"]]]


def test_a_topic_of_several_goes_with_the_last_of_them(planned):
    assert planned(a="liquidation", b="liquidation")[0] == [["all"]]
    assert planned(b="liquidation") == ([["all"]], [[]])
    assert planned() == ([[]], [[b'unsub ["all"]']])


def test_more_than_the_exchange_has_connections_for_is_refused(planned, monkeypatch):
    monkeypatch.setattr(Small, "max_connections", 2)
    planned(a="book trade", b="book trade", c="book trade")
    with pytest.raises(ConfigError, match=r"small: expected subscriptions for 2 connections.* 3 topics each, found 7"):
        planned(a="book trade", b="book trade", c="book trade", d="book")
    assert planned(d="book")[0] == [[["book", "d"]], []]  # one that is given up does not count


def test_a_connection_where_nothing_changes_keeps_its_plan(instruments):
    market = exchange("kraken")
    instruments.add("kraken", "BTC/USD")
    plans = market.plan([Subscription("BTC/USD")], instruments)
    assert market.plan([Subscription("BTC/USD")], instruments, plans)[0] is plans[0]


def test_where_a_message_replaces_all_subscriptions_all_are_sent():
    market = exchange("upbit")
    topics = [{"type": "trade", "code": code} for code in ("KRW-BTC", "KRW-ETH")]
    before, after = (ConnectionPlan("", (), [], args=args) for args in (topics[:1], topics))
    (message,) = market.change_messages(before, after)
    assert msgspec.json.decode(message)[1] == {"type": "trade", "codes": ["KRW-BTC", "KRW-ETH"]}


@pytest.mark.parametrize(
    ("name", "path", "args", "expected"),
    [
        (
            "bitflyer",
            "/json-rpc",
            ["lightning_board_BTC_JPY", "lightning_ticker_BTC_JPY"],
            [
                {
                    "jsonrpc": "2.0",
                    "method": "unsubscribe",
                    "params": {"channel": f"lightning_{what}_BTC_JPY"},
                    "id": at,
                }
                for at, what in enumerate(("board", "ticker"), start=1)
            ],
        ),
        (
            "coinbase-advanced",
            "",
            [["level2", "BTC-USD"], ["ticker", "BTC-USD"], ["level2", "ETH-USD"]],
            [
                {"type": "unsubscribe", "channel": "level2", "product_ids": ["BTC-USD", "ETH-USD"]},
                {"type": "unsubscribe", "channel": "ticker", "product_ids": ["BTC-USD"]},
            ],
        ),
        (
            "gateio",
            "/ws/v4/",
            [["obu", "ob.BTC_USDT.400"]],
            [{"time": 7, "channel": "spot.obu", "event": "unsubscribe", "payload": ["ob.BTC_USDT.400"]}],
        ),
        (
            "hyperliquid",
            "/ws",
            [{"type": "trades", "coin": "BTC"}],
            [{"method": "unsubscribe", "subscription": {"type": "trades", "coin": "BTC"}}],
        ),
        (
            "kraken",
            "/v2",
            [{"channel": "book", "symbol": [name], "depth": 1000} for name in ("BTC/USD", "ETH/USD")],
            [
                {
                    "method": "unsubscribe",
                    "params": {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 1000},
                }
            ],
        ),
        (
            "kraken-futures",
            "/ws/v1",
            [["book", "PF_XBTUSD"], ["trade", "PF_XBTUSD"]],
            [
                {"event": "unsubscribe", "feed": "book", "product_ids": ["PF_XBTUSD"]},
                {"event": "unsubscribe", "feed": "trade", "product_ids": ["PF_XBTUSD"]},
            ],
        ),
        (
            "kucoin",
            "",
            ["/market/level2:BTC-USDT", "/market/level2:ETH-USDT"],
            [
                {
                    "id": "1",
                    "type": "unsubscribe",
                    "topic": "/market/level2:BTC-USDT,ETH-USDT",
                    "privateChannel": False,
                    "response": True,
                }
            ],
        ),
        (
            "mexc",
            "/ws",
            ["spot@public.aggre.deals.v3.api.pb@10ms@BTCUSDT"],
            [{"method": "UNSUBSCRIPTION", "params": ["spot@public.aggre.deals.v3.api.pb@10ms@BTCUSDT"]}],
        ),
        (
            "mexc",
            "wss://contract.mexc.com/edge",
            [{"method": "sub.deal", "param": {"symbol": "BTC_USDT"}}],
            [{"method": "unsub.deal", "param": {"symbol": "BTC_USDT"}}],
        ),
    ],
)
def test_what_ends_a_subscription(name, path, args, expected):
    before, after = (
        ConnectionPlan(path, (), [], topic_path=path, args=wanted) for wanted in ([*args, "more"], ["more"])
    )
    messages = exchange(name).change_messages(before, after)
    sent = [message if isinstance(message, bytes) else message(7_900_000_000) for message in messages]
    assert [msgspec.json.decode(message) for message in sent] == expected


def test_who_has_no_message_to_unsubscribe_says_so():
    before, after = (ConnectionPlan("", (), [], args=args) for args in ([["book", "tBTCUSD"]], []))
    assert exchange("bitfinex").change_messages(before, after) is None
