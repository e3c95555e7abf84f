# cython: language_level=3, boundscheck=False, wraparound=False
"""Which subscriptions have brought data, and which are silent."""
from feeds.events cimport BookDelta, EventHandler, Quote, Stage, Ticker
from feeds.instrument cimport Instrument

__all__ = ["FirstData"]

cdef enum:
    BOOK = 1
    QUOTE = 2
    TICKER = 4

# What may be silent for hours is not awaited: trades, liquidations, candles and funding of quiet markets. A book and
# its best prices are there as long as the market is, and tickers come by the clock or at once after subscribing.
_KINDS = {"book": BOOK, "book_top": BOOK, "quote": QUOTE, "ticker": TICKER}


cdef class FirstData(Stage):
    """Notes of which instruments books, quotes and tickers come, and passes everything on.

    Of `served`, pairs of an instrument and a channel, those are awaited that a market which is open has something to say
    on: book, book_top, quote, ticker. It stands in the chain only until all have come, or the feed has waited long enough.
    """

    cdef:
        list _awaited            # (instrument, channel)
        bytearray _seen          # kinds, by instrument index

    def __init__(self, EventHandler downstream not None, served):
        Stage.__init__(self, downstream)
        self._awaited = [(instrument, channel) for instrument, channel in served if channel in _KINDS]
        self._seen = bytearray(1 + max((instrument.index for instrument, _ in self._awaited), default=0))

    @property
    def silent(self):
        """The pairs of which nothing has come."""
        return [(instrument, channel) for instrument, channel in self._awaited
                if not self._seen[instrument.index] & _KINDS[channel]]

    cpdef on_quote(self, Quote event):
        self._note(event.instrument, QUOTE)
        self.downstream.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        self._note(event.instrument, BOOK)
        self.downstream.on_book_delta(event)

    cpdef on_ticker(self, Ticker event):
        self._note(event.instrument, TICKER)
        self.downstream.on_ticker(event)

    cdef inline int _note(self, Instrument instrument, int kind) except -1:
        if instrument.index < len(self._seen):
            self._seen[instrument.index] |= kind
        return 0
