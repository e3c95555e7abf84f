from feeds.events cimport Stage


# Compares books with the exchange's own best bid and offer. Stands between books and conflation, to see every update.
cdef class QuoteCheck(Stage):
    cdef:
        dict _quotes             # Instrument -> list of (sequence, bid, ask)
        dict _books              # Instrument -> list of (last_id, bid, ask)
