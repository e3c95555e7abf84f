# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""Events as rows of typed columns, handed on in groups: the part of columnar sinks that is called per event."""
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM
from libc.stdint cimport INT64_MAX, INT64_MIN, int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from feeds.events cimport (
    BookDelta, BookStatus, Candle, Event, EventHandler, FeedStatus, Funding, Liquidation, Number, OpenInterest, Quote, Ticker,
    Trade,
)
from feeds.levels cimport POW10

__all__ = ["Column", "EventColumns", "Table"]

cdef extern from *:
    ctypedef long long int128 "__int128"

cdef int DECIMALS = 18           # of every decimal column: no int64 mantissa has more, so that none is rounded
cdef dict _WIDTHS = {"int": 8, "time": 8, "decimal": 16, "flag": 1, "text": 0, "instrument": 4}

# What every row begins with. `event` counts the events of the session, over all tables: it tells their order, and which levels
# are of one message.
_EVERY_ROW = [("event", "int"), ("ts_event", "time"), ("ts_recv", "time"), ("instrument", "instrument")]
_COLUMNS = {
    "trades": [("id", "text"), ("side", "side"), ("price", "decimal"), ("qty", "decimal"), ("is_backlog", "flag")],
    "quotes": [("bid_price", "decimal"), ("bid_qty", "decimal"), ("ask_price", "decimal"), ("ask_qty", "decimal"),
               ("sequence", "int")],
    "book_deltas": [("is_snapshot", "flag"), ("depth", "int"), ("first_id", "int"), ("last_id", "int"), ("previous_id", "int"),
                    ("side", "book_side"), ("price", "decimal"), ("qty", "decimal")],
    "tickers": [("last_price", "decimal"), ("mark_price", "decimal"), ("index_price", "decimal"), ("open_interest", "decimal"),
                ("funding_rate", "decimal"), ("next_funding_time", "time")],
    "funding": [("funding_rate", "decimal"), ("next_funding_rate", "decimal"), ("next_funding_time", "time")],
    "open_interest": [("open_interest", "decimal")],
    "liquidations": [("id", "text"), ("side", "side"), ("price", "decimal"), ("qty", "decimal")],
    "candles": [("ts_open", "time"), ("interval", "int"), ("open", "decimal"), ("high", "decimal"), ("low", "decimal"),
                ("close", "decimal"), ("volume", "decimal"), ("quote_volume", "decimal"), ("is_closed", "flag")],
    "statuses": [("source", "int"), ("old", "text"), ("new", "text"), ("reason", "text")],
}


cdef class Column:
    """One column of a `Table`: its `name`, its `kind`, and the values of the rows in hand."""

    def __init__(self, str name, str kind):
        self.name = name
        self.kind = kind
        self.width = _WIDTHS.get(kind, 1)        # a code of a small dictionary
        self.texts = []

    def __dealloc__(self):
        free(self.data)
        free(self.known)

    cdef int allocate(self, Py_ssize_t rows) except -1:
        if self.width == 0:
            return 0
        self.data = <char*> malloc(rows * self.width)
        self.known = <uint8_t*> malloc(rows)
        if self.data == NULL or self.known == NULL:
            raise MemoryError(f"no room for {rows} rows of {self.name}")
        return 0

    def values(self, Py_ssize_t rows):
        """Return the first `rows` values of a text column: str or None."""
        return self.texts[:rows]

    def buffers(self, Py_ssize_t rows):
        """Return (which are known, data) of the first `rows` values, as Arrow lays them out; None where all are known.

        Flags and what is known are bits; times and integers have 8 bytes, decimals 16, codes of instruments 4, other codes 1.
        """
        known = None
        cdef Py_ssize_t i
        for i in range(rows):
            if not self.known[i]:
                known = _bits(self.known, rows)
                break
        if self.kind == "flag":
            return known, _bits(<uint8_t*> self.data, rows)
        return known, PyBytes_FromStringAndSize(self.data, rows * self.width)


cdef bytes _bits(const uint8_t* flags, Py_ssize_t count):
    cdef bytearray packed = bytearray((count + 7) // 8)
    cdef uint8_t* out = <uint8_t*> PyByteArray_AS_STRING(packed)
    cdef Py_ssize_t i
    for i in range(count):
        out[i >> 3] |= <uint8_t> ((flags[i] != 0) << (i & 7))
    return bytes(packed)


cdef class Table:
    """The rows of one kind of event: `rows` of them in each of `columns`."""

    def __init__(self, str name, columns):
        self.name = name
        self.columns = [Column(*column) for column in columns]
        self.until = INT64_MIN

    cdef int put_int(self, int i, int64_t value, bint is_known=True) except -1:
        cdef Column column = <Column> PyList_GET_ITEM(self.columns, i)
        (<int64_t*> column.data)[self.rows] = value
        column.known[self.rows] = is_known
        return 0

    cdef int put_code(self, int i, int code) except -1:
        cdef Column column = <Column> PyList_GET_ITEM(self.columns, i)
        if column.width == 1:
            (<int8_t*> column.data)[self.rows] = <int8_t> max(code, 0)
        else:
            (<int32_t*> column.data)[self.rows] = max(code, 0)
        column.known[self.rows] = code >= 0
        return 0

    cdef int put_decimal(self, int i, int64_t mantissa, int decimals, bint is_known=True) except -1:
        cdef Column column = <Column> PyList_GET_ITEM(self.columns, i)
        cdef int128 scaled = <int128> mantissa * POW10[DECIMALS - decimals]
        cdef uint64_t* value = <uint64_t*> column.data + 2 * self.rows
        value[0] = <uint64_t> scaled             # little-endian, as Arrow wants it
        value[1] = <uint64_t> (scaled >> 64)
        column.known[self.rows] = is_known
        return 0

    cdef int put_number(self, int i, const Number* number) except -1:
        return self.put_decimal(i, number.mantissa, number.decimals, number.is_known)

    cdef int put_text(self, int i, object text) except -1:
        (<Column> PyList_GET_ITEM(self.columns, i)).texts.append(text)
        return 0


cdef class EventColumns(EventHandler):
    """Turns events into rows, and hands them on by `write_rows(table)` when there are `max_rows` of a kind, or when `interval`
    (seconds of receive time) is over: at each multiple of it, as of midnight UTC. `flush` hands on the rest.

    What an exchange does not send is null, and so are times that are unknown. A book message gives a row for each of its
    levels, bids first, or one without price if it has none.
    """

    def __init__(self, *, Py_ssize_t max_rows=262_144, double interval=3600.0):
        if max_rows < 1 or not interval >= 1e-3:
            raise ValueError(f"expected max_rows of at least 1 and an interval of at least 0.001 s, found {max_rows}, {interval}")
        self.max_rows = max_rows
        self.interval = <int64_t> min(interval * 1e9, 9e18)
        self.owners = []
        self._codes = {}
        self.tables = {name: Table(name, _EVERY_ROW + columns) for name, columns in _COLUMNS.items()}
        self._trades, self._quotes, self._books = (self.tables[name] for name in ("trades", "quotes", "book_deltas"))
        self._tickers, self._funding = self.tables["tickers"], self.tables["funding"]
        self._open_interest, self._liquidations = self.tables["open_interest"], self.tables["liquidations"]
        self._candles, self._statuses = self.tables["candles"], self.tables["statuses"]

    def write_rows(self, Table table not None):
        """Take the rows of `table`: they are gone afterwards."""
        raise NotImplementedError(f"{type(self).__name__} does not say what becomes of rows")

    def flush(self):
        """Hand on what there is."""
        for table in self.tables.values():
            self._hand_on(table)

    def _hand_on(self, Table table):
        cdef Column column
        if table.rows:
            self.write_rows(table)
        table.rows = 0
        for column in table.columns:
            column.texts.clear()

    cdef int _begin(self, Table table, Event event, object who) except -1:
        cdef Column column
        cdef int64_t ts = event.ts_recv
        if table.rows == table.capacity or ts >= table.until:
            self._hand_on(table)
            if table.capacity == 0:
                for column in table.columns:
                    column.allocate(self.max_rows)
                table.capacity = self.max_rows
            if ts >= table.until:
                table.until = INT64_MAX if ts > INT64_MAX - self.interval else ts // self.interval * self.interval + self.interval
        code = self._codes.get(who)
        if code is None:
            code = self._codes[who] = len(self.owners)
            self.owners.append(who)
        table.put_int(0, self.events)
        table.put_int(1, event.ts_event, event.ts_event != 0)
        table.put_int(2, ts, ts != 0)
        table.put_code(3, code)
        return 0

    cpdef on_trade(self, Trade event):
        cdef Table row = self._trades
        self._begin(row, event, event.instrument)
        row.put_text(4, event.id)
        row.put_code(5, <int> event._side - 1)
        row.put_decimal(6, event.price_mantissa, event.price_decimals)
        row.put_decimal(7, event.qty_mantissa, event.qty_decimals)
        row.put_code(8, event.is_backlog)
        row.rows += 1
        self.events += 1

    cpdef on_quote(self, Quote event):
        cdef Table row = self._quotes
        self._begin(row, event, event.instrument)
        row.put_decimal(4, event.bid_price_mantissa, event.price_decimals, event.bid_qty_mantissa != 0)
        row.put_decimal(5, event.bid_qty_mantissa, event.qty_decimals, event.bid_qty_mantissa > 0)
        row.put_decimal(6, event.ask_price_mantissa, event.price_decimals, event.ask_qty_mantissa != 0)
        row.put_decimal(7, event.ask_qty_mantissa, event.qty_decimals, event.ask_qty_mantissa > 0)
        row.put_int(8, event.sequence, event.sequence != 0)
        row.rows += 1
        self.events += 1

    cpdef on_book_delta(self, BookDelta event):
        cdef Py_ssize_t i
        for i in range(event.bid_levels.size):
            self._book_row(event, 0, event.bid_levels.items[i].price, event.bid_levels.items[i].qty)
        for i in range(event.ask_levels.size):
            self._book_row(event, 1, event.ask_levels.items[i].price, event.ask_levels.items[i].qty)
        if event.bid_levels.size + event.ask_levels.size == 0:
            self._book_row(event, -1, 0, 0)
        self.events += 1

    cpdef on_ticker(self, Ticker event):
        cdef Table row = self._tickers
        self._begin(row, event, event.instrument)
        row.put_number(4, &event._last_price)
        row.put_number(5, &event._mark_price)
        row.put_number(6, &event._index_price)
        row.put_number(7, &event._open_interest)
        row.put_number(8, &event._funding_rate)
        row.put_int(9, event.next_funding_time, event.next_funding_time != 0)
        row.rows += 1
        self.events += 1

    cpdef on_funding(self, Funding event):
        cdef Table row = self._funding
        self._begin(row, event, event.instrument)
        row.put_number(4, &event._funding_rate)
        row.put_number(5, &event._next_funding_rate)
        row.put_int(6, event.next_funding_time, event.next_funding_time != 0)
        row.rows += 1
        self.events += 1

    cpdef on_open_interest(self, OpenInterest event):
        cdef Table row = self._open_interest
        self._begin(row, event, event.instrument)
        row.put_number(4, &event._open_interest)
        row.rows += 1
        self.events += 1

    cpdef on_liquidation(self, Liquidation event):
        cdef Table row = self._liquidations
        self._begin(row, event, event.instrument)
        row.put_text(4, event.id)
        row.put_code(5, <int> event._side - 1)
        row.put_number(6, &event._price)
        row.put_number(7, &event._qty)
        row.rows += 1
        self.events += 1

    cpdef on_candle(self, Candle event):
        cdef Table row = self._candles
        self._begin(row, event, event.instrument)
        row.put_int(4, event.ts_open)
        row.put_int(5, event.interval)
        row.put_number(6, &event._open)
        row.put_number(7, &event._high)
        row.put_number(8, &event._low)
        row.put_number(9, &event._close)
        row.put_number(10, &event._volume)
        row.put_number(11, &event._quote_volume)
        row.put_code(12, -1 if event.is_closed is None else bool(event.is_closed))
        row.rows += 1
        self.events += 1

    cpdef on_book_status(self, BookStatus event):
        self._status(event, event.instrument, None, event.old.name, event.new.name, event.reason)

    cpdef on_feed_status(self, FeedStatus event):
        self._status(event, event.exchange, event.source, None, event.status, event.reason)

    def _status(self, Event event, who, source, old, new, reason):
        cdef Table row = self._statuses
        self._begin(row, event, who)
        row.put_int(4, source or 0, source is not None)
        row.put_text(5, old)
        row.put_text(6, new)
        row.put_text(7, reason)
        row.rows += 1
        self.events += 1

    cdef int _book_row(self, BookDelta event, int side, int64_t price, int64_t qty) except -1:
        cdef Table row = self._books
        self._begin(row, event, event.instrument)
        row.put_code(4, event.is_snapshot)
        row.put_int(5, event.depth)
        row.put_int(6, event.first_id, event.first_id != -1)
        row.put_int(7, event.last_id, event.last_id != -1)
        row.put_int(8, event.previous_id, event.previous_id != -1)
        row.put_code(9, side)
        row.put_decimal(10, price, event.price_decimals, side >= 0)
        row.put_decimal(11, qty, event.qty_decimals, side >= 0)
        row.rows += 1
        return 0
