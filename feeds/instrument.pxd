from libc.stdint cimport int64_t, uint32_t


cdef class Instrument:
    cdef:
        # Who it is: fixed for life. `symbol` is None while it is only known from a message.
        readonly str exchange
        readonly str raw_symbol
        readonly object symbol
        readonly str kind
        # Dense, from 0, unique inside its `Instruments`: the row of every per-instrument table.
        readonly int index
        # The same in every session: a CRC of exchange and raw symbol.
        readonly uint32_t fingerprint
        # A mantissa m at d decimals means m / 10**d. They only ever grow, and only while a message is decoded.
        readonly int price_decimals
        readonly int qty_decimals
        # Multiplication factors, 10**-decimals, for C code that works in doubles.
        readonly double price_factor
        readonly double qty_factor
        # From metadata, None where the exchange does not say: Decimal.
        readonly object tick_size
        readonly object lot_size
        readonly object contract_size

    # Decimals become at least these. ValueError beyond MAX_DECIMALS.
    cdef int grow(self, int price_decimals, int qty_decimals) except -1


cdef class Instruments:
    cdef:
        list _all                    # by index
        dict _by_raw                 # (exchange, raw_symbol) -> Instrument
        dict _by_symbol              # (exchange, symbol) -> Instrument
        public bint infer            # make an instrument for a symbol that no metadata names
        set _inferred                # exchanges for which that is done even so
        readonly int max_size

    # None where the exchange has no such raw symbol and `infer` is off.
    cpdef Instrument find(self, str exchange, str raw_symbol)
