# Events as rows of typed columns in C buffers: what a columnar file format is fed from.
from libc.stdint cimport int64_t, uint8_t

from feeds.events cimport BookDelta, Event, EventHandler, Number


# One column: `rows` of its table are used. Owned by the column, as large as the table may become, allocated with the first row.
cdef class Column:
    cdef:
        readonly str name
        readonly str kind        # "int", "time" (ns), "decimal" (at 18 decimals), "flag", "text", else the name of a dictionary
        int width                # bytes of a value in `data`
        char* data
        uint8_t* known           # one byte a row: 0 where the value is null
        list texts               # instead of `data`, for "text"

    cdef int allocate(self, Py_ssize_t rows) except -1


# The rows of one kind of event since they were last handed on.
cdef class Table:
    cdef:
        readonly str name
        readonly list columns
        readonly Py_ssize_t rows
        Py_ssize_t capacity      # 0 before the first row
        int64_t until            # receive time at which the next group of rows begins

    # Set column `i` of the row in hand, which is number `rows`.
    cdef int put_int(self, int i, int64_t value, bint is_known=*) except -1
    cdef int put_code(self, int i, int code) except -1          # or a flag; below 0: null
    cdef int put_decimal(self, int i, int64_t mantissa, int decimals, bint is_known=*) except -1
    cdef int put_number(self, int i, const Number* number) except -1
    cdef int put_text(self, int i, object text) except -1


cdef class EventColumns(EventHandler):
    cdef:
        readonly dict tables         # name -> Table
        readonly list owners         # Instrument, or the name of an exchange, by the codes of the columns "instrument"
        readonly int64_t events      # seen so far
        readonly Py_ssize_t max_rows
        readonly int64_t interval    # ns
        dict _codes                  # the way back
        Table _trades, _quotes, _books, _tickers, _funding, _open_interest, _liquidations, _candles, _statuses

    # Make room for a row of `event`, and set what every row has.
    cdef int _begin(self, Table table, Event event, object who) except -1
    cdef int _book_row(self, BookDelta event, int side, int64_t price, int64_t qty) except -1
