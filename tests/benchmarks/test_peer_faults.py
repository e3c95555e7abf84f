"""Cells of `benchmarks/peer_faults.py`, in a hurry, and what its watch makes of reports that are made up."""

from __future__ import annotations

import argparse
import sys

import msgspec
import peer_faults
import pytest
from peer_faults import (
    CASES,
    FLOW,
    NAMES,
    SCENARIOS,
    Case,
    CellError,
    Client,
    Pace,
    Seen,
    Truth,
    Watch,
    cells,
    play,
    table,
    worst,
)

from feeds.simulator.markets import plausible_market
from feeds.simulator.order_flow import OrderFlow
from tests.feeds.simulator import matrix

OURS, PLAIN = peer_faults.find_clients(argparse.Namespace(cryptofeed_python=None, client=None))[0]
OKX = next(case for case in CASES if case.exchange == "okx")
HURRY = Pace(calm=0.2, least=0.3)
BUSY = msgspec.structs.replace(FLOW, rate=200)
GAP = next(scenario for scenario in SCENARIOS if scenario.name == "gap")


@pytest.mark.parametrize("case", [case for case in CASES if case.clients == NAMES], ids=lambda case: case.exchange)
@pytest.mark.parametrize(("client", "how"), [(OURS, "status"), (PLAIN, "log")], ids=["ours", "websockets"])
async def test_a_gap_is_told_and_never_shown(client: Client, how: str, case: Case) -> None:
    seen = await play(client, case, GAP, HURRY, BUSY)
    assert (seen.wrong, seen.has_ended) == (0, False)
    assert seen.recovery is not None
    assert {one for _, one, _ in seen.told} == {how, "withdrawn"}


async def test_a_client_that_does_not_start_says_why() -> None:
    client = Client("broken", "", (sys.executable, "-c", "raise SystemExit('no such thing')"))
    with pytest.raises(CellError, match="broken, okx, gap: exception: no such thing"):
        await play(client, OKX, GAP, HURRY)


# --- the watch, by a clock of the test -----------------------------------------------------------------------------


class Watched:
    """A watch on an order flow of one symbol that only the test moves."""

    def __init__(self) -> None:
        market = plausible_market("BTCUSDT")
        self.now = 0.0
        self.market = market
        self.flow = OrderFlow([market], FLOW)
        self.watch = Watch(Truth(self.flow), ["BTCUSDT"], lambda: self.now)

    def pass_time(self, seconds: float, bursts: int = 0) -> None:
        """Let time pass, and then the exchange move on."""
        self.now += seconds
        self.watch.look()
        for _ in range(bursts):
            self.flow.next_burst()
        self.watch.look()

    def show(self, more: int = 0) -> None:
        """Report the true book, or one that has so many lots more at its best bid."""
        market, book = self.market, self.flow.book("BTCUSDT")
        bids = [(price, qty + more * (number == 0)) for number, (price, qty) in enumerate(book.bids)]

        def text(side: list[tuple[int, int]]) -> list[tuple[str, str]]:
            return [
                (f"{p * market.tick}e-{market.price_decimals}", f"{q * market.lot}e-{market.qty_decimals}")
                for p, q in side
            ]

        self.watch.hear({"symbol": "BTCUSDT", "bids": text(bids), "asks": text(book.asks)})


@pytest.fixture
def watched() -> Watched:
    made = Watched()
    made.show()
    made.watch.has_struck = lambda: True
    made.watch.look()
    return made


def test_a_true_book_stays_right_for_as_long_as_nothing_happens(watched: Watched) -> None:
    watched.pass_time(100.0)
    assert (watched.watch.wrong, watched.watch.old, watched.watch.was_ill) == (0, 0, False)
    assert watched.watch.is_right_for(100.0)


def test_a_book_is_old_when_it_has_not_been_true_for_a_while(watched: Watched) -> None:
    watched.pass_time(5.0, bursts=3)
    watched.pass_time(0.5)
    assert (watched.watch.old, watched.watch.was_ill) == (0, False)
    watched.pass_time(0.25)
    watched.pass_time(2.0)
    assert (watched.watch.old, watched.watch.wrong) == (2.25, 0)
    watched.show()
    assert watched.watch.right_since == 7.75
    watched.pass_time(1.0)
    assert watched.watch.old == 2.25


def test_a_book_that_never_was_is_wrong_until_something_is_told(watched: Watched) -> None:
    watched.show(more=1)
    watched.pass_time(2.0)
    assert (watched.watch.wrong, watched.watch.was_ill) == (2.0, True)
    watched.watch.hear({"told": "log", "text": "a message is missing"})
    watched.pass_time(2.0)
    assert watched.watch.wrong == 2.0
    watched.show(more=1)
    watched.pass_time(1.0)
    assert watched.watch.wrong == 3.0
    watched.watch.hear({"symbol": "BTCUSDT"})
    watched.pass_time(1.0)
    assert watched.watch.wrong == 3.0
    assert not watched.watch.is_right_for(0.0)
    watched.show()
    assert watched.watch.is_right_for(0.0)


def test_the_first_thing_told_is_of_the_fault() -> None:
    watched = Watched()
    struck = []
    watched.watch.has_struck = lambda: bool(struck)
    watched.pass_time(1.0)
    struck.append(True)  # between two looks
    watched.now += 1.0
    watched.watch.hear({"told": "log", "text": "a message is missing"})
    assert watched.watch.struck_at == watched.watch.told[0][0] == 2.0


def test_a_client_that_ended_shows_nothing(watched: Watched) -> None:
    watched.watch.end()
    watched.pass_time(9.0, bursts=1)
    assert (watched.watch.wrong, watched.watch.old, watched.watch.was_ill) == (0, 0, True)


# --- the page -------------------------------------------------------------------------------------------------------


def test_faults_are_those_of_the_fault_matrix() -> None:
    assert {scenario.name for scenario in SCENARIOS} - {"none"} <= {scenario.name for scenario in matrix.SCENARIOS}


def test_requests_are_early_until_they_are_allowed() -> None:
    assert peer_faults.early_requests([(1.0, "/a"), (1.5, "/b"), (3.9, "/a"), (4.0, "/a")], 3.0) == 2
    assert peer_faults.early_requests([], 3.0) == 0


def test_the_worst_of_some_rounds_counts() -> None:
    told = [(0.1, "log", "a")]
    rounds = [Seen(2.0, 0.0, 3.0, told), Seen(1.0, 0.5, 0.0, told, early=1, longest_pause=0.3)]
    assert worst(rounds) == Seen(2.0, 0.5, 3.0, [*told, *told], early=1, longest_pause=0.3)
    assert worst([*rounds, Seen(None, 0.0, 0.0, [], has_ended=True)]).recovery is None
    assert worst([*rounds, Seen(None, 0.0, 0.0, [], has_ended=True)]).has_ended


async def test_a_cell_is_played_again_when_the_machine_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = [0.5, 0.1, 0.0]

    async def play_late(*_: object) -> Seen:
        return Seen(0.0, 0.0, 0.0, [], longest_pause=pauses.pop(0))

    monkeypatch.setattr(peer_faults, "play", play_late)
    options = argparse.Namespace(jobs=1, exchange="okx", fault=["reset"], quick=False, log=False)
    found = await peer_faults.play_all([OURS], options)
    assert found["okx", "reset", "ours"].longest_pause == 0.1
    assert pauses == [0.0]


def test_a_cell_says_what_was_seen() -> None:
    told = [(0.1, "log", "a"), (0.2, "log", "b"), (0.3, "exception", "c")]
    assert cells(Seen(0.0, 0.001, 0.0, [])) == ["0", "0", "0", "-"]
    assert cells(Seen(1.234, 0.5, 12.34, told, early=2)) == ["1.23 (2 early)", "0.50", "12.3", "log, exception"]
    assert cells(Seen(None, 0.0, 40.0, [])) == ["never", "0", "40.0", "-"]
    assert cells(Seen(None, 0.0, 0.0, told[2:], has_ended=True)) == ["ends", "0", "0", "exception"]


def test_a_table_has_what_was_played() -> None:
    found = {("okx", name, "ours"): Seen(0.0, 0.0, 0.0, []) for name in ("reset", "gap")}
    head, _, *rows = table(found, OKX)
    assert head == "|  | ours: right again | ours: wrong | ours: old | ours: told |"
    assert rows == ["| gap | 0 | 0 | 0 | - |", "| reset | 0 | 0 | 0 | - |"]
    found["okx", "gap", "cryptofeed"] = Seen(1.0, 0.0, 0.0, [])
    _, _, *rows = table(found, OKX)
    assert rows == ["| gap | 0 | 0 | 0 | - | 1.00 | 0 | 0 | - |", "| reset | 0 | 0 | 0 | - |  |  |  |  |"]
    assert list(table(found, CASES[0])) == []


def test_peers_that_are_absent_are_said_so() -> None:
    found, absent = peer_faults.find_clients(argparse.Namespace(cryptofeed_python=None, client=None))
    assert [client.name for client in found] == ["ours", "websockets"]
    assert absent == {"cryptofeed": "no --cryptofeed-python"}
    found, absent = peer_faults.find_clients(argparse.Namespace(cryptofeed_python=sys.executable, client=["ours"]))
    assert [client.name for client in found] == ["ours"]
    assert absent == {"cryptofeed": "ModuleNotFoundError: No module named 'cryptofeed'"}
