from libc.stdint cimport int64_t, uint8_t, uint64_t

from feeds.recording.message cimport RawMessage


# A cursor over recorded messages: what every reader of a recording implements, and all that a replay needs.
#
#     while source.advance():
#         use(source.ts_recv, source.payload, source.size)
#
# In Python it is an iterator over RawMessage. Not safe for use by two threads at once.
cdef class RawSource:
    cdef:
        # The current message, after advance() returned True. `payload` points into the reader's buffer and dies at the
        # next advance() or close(); `tag` is b"" for most, UTF-8 by promise of the writer only.
        int64_t ts_recv             # ns since the epoch; 0 = unknown
        int source                  # number of the connection; 0 = the recording itself
        int flags                   # kind and bits, see message.pxd
        const char* payload
        Py_ssize_t size
        bytes tag
        const char* extension       # what else is known, encoded; dies with `payload`
        Py_ssize_t extension_size   # 0 for most

        # Number of the run that the message is of, from 0: within one, a source is the same connection. A later one
        # declares its sources anew.
        readonly int64_t run

        readonly str path
        readonly dict metadata      # what the file says of itself; {} where the format says nothing
        readonly dict sources       # number -> what its declaration said, as far as it has been read
        # What could not be read. The list keeps the first `max_damages`, the count counts all.
        readonly list damages
        readonly Py_ssize_t damage_count
        readonly int64_t lost_bytes         # of all
        readonly Py_ssize_t max_damages
        readonly bint strict        # raise RecordingDamaged instead
        # For a progress display: the position in the file, and its size when it was opened. Bytes on disk, compressed.
        readonly int64_t bytes_read
        readonly int64_t total_bytes

        Py_ssize_t declared_size    # bytes of JSON behind `sources`, which a file must not make grow without end
        dict _declared_sizes        # number -> its part of them
        bytes _tag_seen             # of `_tag_text`: tags repeat
        str _tag_text
        object _file
        bint _owns_file

    # Moves to the next message; False at the end.
    cdef bint advance(self) except -1
    # A copy of the current message, which stays valid.
    cpdef RawMessage message(self)
    cpdef close(self)
    # Goes to where messages at `ts` (ns since the epoch) or later begin: what follows are the declarations of the sources,
    # then the messages from a place on that is before the first of those. Returns False, and stays, where the format has
    # no way but reading.
    cpdef bint seek(self, int64_t ts) except -1
    # When the kernel received the current message; 0 = unknown.
    cdef int64_t ts_kernel(self)

    # For implementations.
    # Sets `path`, `total_bytes` and `_file`, which read(), seek() and readinto() then work on.
    cdef int _open(self, path) except -1
    # Notes the damage, or raises RecordingDamaged when strict.
    cdef int _report(self, damage) except -1
    # Enters the current message, a KIND_SOURCE, into `sources`; reports it if it is no JSON object.
    cdef int _declare(self, int64_t offset) except -1


# Reader of our own format (docs/recording-format.md). Holds one block in memory, stored and raw; beside it two
# groups of blocks where it reads ahead, of 2 MiB each or of one block.
cdef class RecordingReader(RawSource):
    cdef:
        readonly int version
        # True once the end mark has been read: the recording was closed, not cut off or still being written.
        readonly bint complete
        readonly Py_ssize_t max_block_size

        # The current block, in `raw` or `content`. Bytes in [position, end) of it are messages not yet read.
        bytearray raw
        bytearray stored            # as it stands in the file
        const uint8_t[::1] content  # of one that was read ahead
        const uint8_t* begin
        const uint8_t* position
        const uint8_t* end
        uint64_t previous_ts        # ts_recv of the message before, modulo 2**64
        Py_ssize_t remaining        # messages that the block's header still promises
        int64_t block_offset
        int64_t segment_offset      # of the block that begins the current segment; 0 = the file's header does

        int64_t offset              # in the file, of the next block
        bytes session               # None while the file header is damaged and no block has been found
        int64_t sequence            # expected of the next block
        bint after_damage           # blocks missing just here have been reported
        int64_t rescan_budget       # bytes of damaged blocks that may still be searched for a block inside
        object decompressor
        Py_ssize_t max_window_size
        readonly bint reads_ahead   # the next blocks are decompressed on another thread
        object _ahead               # ReadAhead, once needed
        list _ready                 # of Block, read ahead: the next is the last
        Py_ssize_t ahead_size       # of the next group, decompressed
        int64_t ahead_from          # offset of the next block that may be read ahead

        # After seek(): offsets of blocks to be read first, for nothing but the declarations in them.
        list declaring
        bint only_declarations
        int64_t destination         # the block to go on with after them
        int64_t first_block         # offset
        dict first_metadata         # of the file, where `metadata` is of the segment
        list _index                 # of IndexEntry, once needed

    # Reads on to the end; returns the sequence number that the next block would have.
    cpdef int64_t skip_all(self) except -1
    cdef bint _next_block(self) except -1
    cdef int _end_block(self) except -1
    cdef bint _is_window_small(self, stored) except -1
    cdef int _skip_damaged_record(self) except -1
