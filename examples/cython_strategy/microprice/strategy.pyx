# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A strategy that says where the next trade will be, and a WebSocket service that tells others."""
from feeds.book cimport ASK, BID, OrderBook
from feeds.events cimport BUY, UNKNOWN, BookStatus, BookUpdate, Trade
from feeds.instrument cimport Instrument
from feeds.levels cimport POW10, PriceLevel
from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport
from strategies.strategy cimport Strategy

__all__ = ["Microprice", "Signal", "SignalService"]


# What the strategy knows of one instrument.
cdef class Signal:
    cdef:
        readonly Instrument instrument
        readonly double microprice       # 0 while there is none
        readonly double lean             # -1 (down) to 1 (up)
        readonly long updates            # calls of on_book
        readonly long merged             # book messages that these stand for
        readonly long predictions        # trades that came while the lean was beyond the threshold
        readonly long hits               # those of them that it was right about

    def __repr__(self):
        return (f"{self.instrument.symbol or self.instrument.raw_symbol} microprice {self.microprice:.8g} "
                f"lean {self.lean:+.2f} updates {self.updates} of {self.merged} right {self.hits} of {self.predictions}")


cdef class Microprice(Strategy):
    """Leans towards the side of the best bid and offer that has less to give, and keeps the score of being right.

    microprice = (bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty): the mid where both sides are equal. A trade is a
    hit when its aggressor took the side that a lean beyond `threshold` pointed to.
    """

    cdef:
        readonly double threshold
        readonly list signals            # by Instrument.index, None where nothing has come

    def __init__(self, double threshold=0.2):
        self.threshold = threshold
        self.signals = []

    cpdef on_book(self, BookUpdate event):
        cdef Signal signal = self._signal(event.instrument)
        cdef OrderBook book = event.book
        cdef PriceLevel bid, ask
        signal.updates += 1
        signal.merged += event.merged
        if not (book.best(BID, &bid) and book.best(ASK, &ask)):
            signal.microprice = signal.lean = 0
            return
        cdef double total = <double> bid.qty + <double> ask.qty
        signal.lean = (bid.qty - ask.qty) / total
        # The mantissas are at the book's decimals; of quantities only the ratio is needed.
        signal.microprice = (bid.price * (ask.qty / total) + ask.price * (bid.qty / total)) / POW10[book.price_decimals]

    cpdef on_trade(self, Trade event):
        cdef Signal signal = self._signal(event.instrument)
        if -self.threshold <= signal.lean <= self.threshold or event._side == UNKNOWN:
            return
        signal.predictions += 1
        signal.hits += (event._side == BUY) == (signal.lean > 0)

    cpdef on_book_status(self, BookStatus event):
        """The book is not what it was: no opinion until it comes back."""
        cdef Signal signal = self._signal(event.instrument)
        signal.microprice = signal.lean = 0

    def find(self, str symbol):
        """Return the signal of an instrument by our symbol or the exchange's, or None."""
        cdef Signal signal
        for signal in self.signals:
            if signal is not None and symbol in (signal.instrument.symbol, signal.instrument.raw_symbol):
                return signal
        return None

    cdef Signal _signal(self, Instrument instrument):
        cdef Py_ssize_t index = instrument.index
        cdef Signal signal
        if index < len(self.signals) and self.signals[index] is not None:
            return <Signal> self.signals[index]
        self.signals.extend([None] * (index + 1 - len(self.signals)))
        signal = Signal.__new__(Signal)
        signal.instrument = instrument
        self.signals[index] = signal
        return signal


cdef class SignalService(WSListener):
    """The server's side of one connection: a symbol comes in as text, what the strategy thinks of it goes out."""

    cdef:
        readonly Microprice strategy
        readonly long answered

    def __init__(self, Microprice strategy not None):
        self.strategy = strategy

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        # `frame` is a view of the receive buffer: copy what is to outlive this call.
        if frame.msg_type != WSMsgType.TEXT:
            return
        symbol = frame.get_payload_as_utf8_text()
        signal = self.strategy.find(symbol)
        transport.send(WSMsgType.TEXT, (repr(signal) if signal is not None else f"{symbol} unknown").encode())
        self.answered += 1
