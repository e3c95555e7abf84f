from libc.stdint cimport int64_t

from feeds.book cimport OrderBook
from feeds.events cimport EventHandler
from feeds.instrument cimport Instrument


# What users subclass: `cdef class Mine(Strategy)` overrides `cpdef on_<kind>` by C call, `class Mine(Strategy)` from Python.
cdef class Strategy(EventHandler):
    cdef:
        public str name
        # The time of the event being handled (ts_recv): the only clock a strategy has, the same live and in replay.
        readonly int64_t now
        readonly dict books              # Instrument -> OrderBook, every book of the session
        list _timers                     # heap of (due, number, name, period)
        int64_t _next_timer              # INT64_MAX when there is none
        int64_t _timer_number
        str _firing                      # the timer whose `on_timer` runs

    cpdef on_start(self)
    cpdef on_stop(self)
    cpdef on_timer(self, str name)
    cpdef OrderBook book(self, Instrument instrument)
    cdef int _fire_timers(self, int64_t now) except -1


# Stands before the strategy: sets its clock, keeps its books, fires its timers, and names it when it raises.
cdef class StrategyHost(EventHandler):
    cdef readonly Strategy strategy

    cdef int _fire_timers(self, int64_t ts_recv) except -1
