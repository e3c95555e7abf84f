/* The other side of every measurement, and the limit that the libraries are compared with: WebSocket in plain C.

     limit serve                                  prints {"port": N}; one connection at a time, until stdin ends
         --cert FILE --key FILE                   over TLS, PEM
     limit client echo|burst|flood PORT SIZE SECONDS
         --ca FILE                                over TLS, trusting this certificate
     both: --block                                block in recv; else spin on a non-blocking socket
           --core N                               stay on this core

   What a server does is in the path of the request:
     /echo            sends every message back
     /flood/SIZE      waits for a message "SECONDS", sends frames of that size for so long, then CLOSE; "SECONDS now"
                      has the end of the stream come with the CLOSE, for programs that close only then
     /sink/SECONDS    the reverse: asks for so many seconds of frames, and counts them

   A client does `echo` (one message outstanding; asks for /echo), `burst` (asks for /flood, counts frames) or `flood`
   (does what /flood does, for whoever serves). Each connection ends with one line of JSON:
     {"n": round trips or frames, "seconds": wall, "user_ns": ..., "cpu_ns": ...}     from who measures
     {"n": frames sent or messages echoed}                                            from the other side

   Everything that can be done ahead is: frames to send are built, and masked, once. Exit status 1 and a line on stderr
   where the peer breaks the protocol or an echo differs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum {
    CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10,
    MAX_HEADER = 14,            /* of a frame: 2, 8 of length, 4 of mask */
    MAX_REQUEST = 16 * 1024,    /* of a handshake, bytes */
    MAX_PAYLOAD = 64 << 20,
    READ_SIZE = 256 * 1024,     /* room for one recv */
    BLOCK_SIZE = 256 * 1024,    /* frames of a flood are written in blocks of about this size */
    TIMEOUT = 120,              /* seconds that a connection may last */
    LINGER = 10,                /* seconds that the peer has to answer our CLOSE */
};

static const double WARM_UP = 0.02;     /* seconds of round trips before those that count */
static const uint8_t MASK[4] = {0x3a, 0xc5, 0x71, 0x9e};

typedef struct {
    int fd;
    int is_client;      /* masks what it sends */
    int is_spinning;
#ifdef WITH_TLS
    SSL* ssl;
#endif
    /* Bytes in [read_pos, write_pos) have arrived and are no frame yet that was handed out. */
    uint8_t* data;
    size_t capacity;
    size_t read_pos;
    size_t write_pos;
} Connection;

/* Unmasked payload, in the connection's buffer until the next read. Its header may be overwritten. */
typedef struct {
    int opcode;
    uint8_t* payload;
    size_t size;
} Frame;

static void fail(const char* format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("limit: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* Aligned to 64 bytes: on Zen processors the kernel copies six times as slowly to where malloc() puts large blocks. */
static void* allocate(size_t size)
{
    void* memory = NULL;
    if (posix_memalign(&memory, 64, size) != 0)
        fail("no memory for %zu bytes", size);
    return memory;
}

static void on_alarm(int number)
{
    static const char message[] = "limit: a connection lasted longer than its limit\n";
    (void)number;
    if (write(2, message, sizeof message - 1) < 0)
        _exit(2);
    _exit(1);
}

/* --- clocks -------------------------------------------------------------------------------------- */

typedef struct {
    double wall;        /* s */
    int64_t user;       /* ns, sampled by the kernel's tick */
    int64_t cpu;        /* ns, user and system, exact */
} Clocks;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static Clocks clocks(void)
{
    struct rusage usage;
    struct timespec t;
    Clocks c;
    getrusage(RUSAGE_SELF, &usage);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    c.user = (int64_t)usage.ru_utime.tv_sec * 1000000000 + (int64_t)usage.ru_utime.tv_usec * 1000;
    c.cpu = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    c.wall = now();
    return c;
}

static void report(long n, Clocks start)
{
    const Clocks end = clocks();
    printf("{\"n\": %ld, \"seconds\": %.9f, \"user_ns\": %lld, \"cpu_ns\": %lld}\n", n, end.wall - start.wall,
           (long long)(end.user - start.user), (long long)(end.cpu - start.cpu));
    fflush(stdout);
}

/* --- bytes --------------------------------------------------------------------------------------- */

#ifdef WITH_TLS
static const char* tls_reason(void)
{
    const char* reason = ERR_reason_error_string(ERR_get_error());
    return reason == NULL ? "connection lost" : reason;
}

/* True where an SSL call that did not succeed is to be made again; false at the end of the stream. */
static int tls_again(Connection* c, int result, const char* what)
{
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return c->is_spinning || errno != EAGAIN;   /* EAGAIN of a blocking socket: SO_RCVTIMEO */
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        if (errno == 0 || errno == ECONNRESET || errno == EPIPE)
            return 0;
        if (errno == EINTR || errno == EAGAIN)
            return errno == EINTR;
        fail("%s: %s", what, strerror(errno));
        return 0;
    default:
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return 0;
        fail("%s: %s", what, tls_reason());
        return 0;
    }
}
#endif

/* Read what is there, at least one byte; 0 at the end of the stream. */
static size_t receive(Connection* c, uint8_t* into, size_t room)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        for (;;) {
            ERR_clear_error();
            errno = 0;
            int got = SSL_read(c->ssl, into, (int)room);
            if (got > 0)
                return (size_t)got;
            if (!tls_again(c, got, "SSL_read"))
                return 0;
        }
    }
#endif
    for (;;) {
        ssize_t got = recv(c->fd, into, room, c->is_spinning ? MSG_DONTWAIT : 0);
        if (got >= 0)
            return (size_t)got;
        if (errno == ECONNRESET)
            return 0;
        if (errno == EAGAIN && !c->is_spinning)     /* SO_RCVTIMEO */
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            fail("recv: %s", strerror(errno));
    }
}

/* Send everything; 0 if the peer is gone. */
static int transmit(Connection* c, const uint8_t* data, size_t size)
{
    while (size > 0) {
        ssize_t done;
#ifdef WITH_TLS
        if (c->ssl != NULL) {
            ERR_clear_error();
            errno = 0;
            done = SSL_write(c->ssl, data, (int)size);
            if (done <= 0) {
                if (!tls_again(c, (int)done, "SSL_write"))
                    return 0;
                continue;
            }
        } else
#endif
        {
            done = send(c->fd, data, size, MSG_NOSIGNAL | (c->is_spinning ? MSG_DONTWAIT : 0));
            if (done < 0) {
                if (errno == EAGAIN || errno == EINTR)
                    continue;
                if (errno == ECONNRESET || errno == EPIPE)
                    return 0;
                fail("send: %s", strerror(errno));
            }
        }
        data += done;
        size -= (size_t)done;
    }
    return 1;
}

/* Read once, so that a frame of `needed` bytes has room. Payloads handed out before are dead. 0 at the end of the stream. */
static int fill(Connection* c, size_t needed)
{
    if (c->read_pos == c->write_pos) {
        c->read_pos = c->write_pos = 0;
    } else if (c->capacity - c->write_pos < READ_SIZE / 2 || c->capacity - c->read_pos < needed) {
        memmove(c->data, c->data + c->read_pos, c->write_pos - c->read_pos);
        c->write_pos -= c->read_pos;
        c->read_pos = 0;
    }
    if (c->capacity < needed) {
        c->capacity = needed + READ_SIZE;
        c->data = realloc(c->data, c->capacity);
        if (c->data == NULL)
            fail("no memory for a frame of %zu bytes", needed);
    }
    size_t got = receive(c, c->data + c->write_pos, c->capacity - c->write_pos);
    c->write_pos += got;
    return got > 0;
}

/* --- frames -------------------------------------------------------------------------------------- */

static void apply_mask(uint8_t* restrict data, size_t size, const uint8_t* mask)
{
    uint32_t word;
    size_t i = 0;
    memcpy(&word, mask, 4);
    for (; i + 4 <= size; i += 4) {
        uint32_t chunk;
        memcpy(&chunk, data + i, 4);
        chunk ^= word;
        memcpy(data + i, &chunk, 4);
    }
    for (; i < size; i++)
        data[i] ^= mask[i & 3];
}

/* Write the header of a final frame; return its size. */
static size_t put_header(uint8_t* at, int opcode, size_t size, int is_masked)
{
    size_t n = 2;
    at[0] = (uint8_t)(0x80 | opcode);
    if (size < 126) {
        at[1] = (uint8_t)size;
    } else {
        const int bytes = size < 65536 ? 2 : 8;
        at[1] = bytes == 2 ? 126 : 127;
        for (int i = 0; i < bytes; i++)
            at[n++] = (uint8_t)((uint64_t)size >> (8 * (bytes - 1 - i)));
    }
    if (is_masked) {
        at[1] |= 0x80;
        memcpy(at + n, MASK, 4);
        n += 4;
    }
    return n;
}

/* Write a whole frame, masked for a client; return its size. */
static size_t put_frame(Connection* c, uint8_t* at, int opcode, const uint8_t* payload, size_t size)
{
    const size_t header = put_header(at, opcode, size, c->is_client);
    memcpy(at + header, payload, size);
    if (c->is_client)
        apply_mask(at + header, size, MASK);
    return header + size;
}

static int send_small(Connection* c, int opcode, const uint8_t* payload, size_t size)
{
    uint8_t frame[MAX_HEADER + 125];
    return transmit(c, frame, put_frame(c, frame, opcode, payload, size));
}

/* Take the next complete frame out of the buffer, unmasked. 0 if there is none yet: then `*needed` bytes make one. */
static inline int take_frame(Connection* c, Frame* frame, size_t* needed)
{
    uint8_t* at = c->data + c->read_pos;
    const size_t available = c->write_pos - c->read_pos;
    size_t header = 2;
    *needed = MAX_HEADER;
    if (available < 2)
        return 0;
    uint64_t size = at[1] & 0x7f;
    if (size == 126) {
        header = 4;
        if (available < header)
            return 0;
        size = (uint64_t)at[2] << 8 | at[3];
    } else if (size == 127) {
        header = 10;
        if (available < header)
            return 0;
        size = 0;
        for (int i = 2; i < 10; i++)
            size = size << 8 | at[i];
    }
    const int is_masked = at[1] >> 7;
    if ((at[0] & 0x70) != 0)
        fail("expected no extension, found a first byte of 0x%02x", at[0]);
    if (is_masked == c->is_client)
        fail("expected %s frames, found 0x%02x 0x%02x", c->is_client ? "unmasked" : "masked", at[0], at[1]);
    if (size > MAX_PAYLOAD)
        fail("expected frames of at most %d bytes, found %llu", MAX_PAYLOAD, (unsigned long long)size);
    if (is_masked)
        header += 4;
    *needed = header + size;
    if (available < *needed)
        return 0;
    if (is_masked)
        apply_mask(at + header, size, at + header - 4);
    frame->opcode = at[0] & 0x0f;
    frame->payload = at + header;
    frame->size = size;
    if ((at[0] & 0x80) == 0 || frame->opcode == CONTINUATION)
        fail("expected whole messages, found a fragment");
    c->read_pos += *needed;
    return 1;
}

/* Return the next message or CLOSE, answering pings; 0 at the end of the stream. */
static int next_frame(Connection* c, Frame* frame)
{
    size_t needed;
    for (;;) {
        while (take_frame(c, frame, &needed)) {
            if (frame->opcode == PING) {
                if (!send_small(c, PONG, frame->payload, frame->size))
                    return 0;
            } else if (frame->opcode != PONG) {
                return 1;
            }
        }
        if (!fill(c, needed))
            return 0;
    }
}

/* --- handshake ----------------------------------------------------------------------------------- */

static uint32_t rotate_left(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* SHA-1 of a text shorter than 120 bytes. */
static void sha1(const char* text, uint8_t digest[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t blocks[128] = {0};
    const size_t size = strlen(text);
    const size_t total = size < 56 ? 64 : 128;
    memcpy(blocks, text, size);
    blocks[size] = 0x80;
    for (int i = 0; i < 8; i++)
        blocks[total - 1 - i] = (uint8_t)((uint64_t)size * 8 >> (8 * i));
    for (size_t block = 0; block < total; block += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const uint8_t* at = blocks + block + 4 * i;
            w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        }
        for (int i = 16; i < 80; i++)
            w[i] = rotate_left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            const uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                               : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                               : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                        : (b ^ c ^ d) + 0xca62c1d6;
            const uint32_t t = rotate_left(a, 5) + f + e + w[i];
            e = d;
            d = c;
            c = rotate_left(b, 30);
            b = a;
            a = t;
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* RFC 6455 section 4.2.2, step 5.4: base64 of SHA-1 of the key and a fixed text. */
static void accept_value(const char* key, char out[29])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[120];
    uint8_t digest[21] = {0};
    snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, digest);
    for (int i = 0; i < 7; i++) {
        const uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            out[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

/* Copy the value of a header into `value`; 0 if it is missing or longer than 63 bytes. */
static int find_header(const char* head, const char* name, char value[64])
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\r\n%s:", name);
    const char* at = strcasestr(head, wanted);
    if (at == NULL)
        return 0;
    at += strlen(wanted);
    at += strspn(at, " \t");
    const size_t size = strcspn(at, " \t\r");
    if (size > 63)
        return 0;
    memcpy(value, at, size);
    value[size] = 0;
    return 1;
}

/* Read up to the empty line into `head`, leaving what follows in the buffer; 0 at the end of the stream. */
static int read_head(Connection* c, char head[MAX_REQUEST])
{
    for (;;) {
        const uint8_t* at = c->data + c->read_pos;
        const size_t available = c->write_pos - c->read_pos;
        const uint8_t* end = available ? memmem(at, available, "\r\n\r\n", 4) : NULL;
        if (end != NULL && end - at < MAX_REQUEST - 5) {
            const size_t size = (size_t)(end - at) + 4;
            memcpy(head, at, size);
            head[size] = 0;
            c->read_pos += size;
            return 1;
        }
        if (available >= MAX_REQUEST)
            fail("expected a handshake of less than %d bytes", MAX_REQUEST);
        if (!fill(c, MAX_REQUEST))
            return 0;
    }
}

/* Answer the upgrade request; its path is in `path` then. 0 if the client left. */
static int accept_upgrade(Connection* c, char path[64])
{
    char head[MAX_REQUEST], key[64], accept[29], response[256];
    if (!read_head(c, head))
        return 0;
    if (sscanf(head, "GET %63s HTTP/1.1\r", path) != 1 || !find_header(head, "Sec-WebSocket-Key", key))
        fail("expected the request of a WebSocket, found %.60s", head);
    accept_value(key, accept);
    const int size = snprintf(response, sizeof response,
                              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    return transmit(c, (const uint8_t*)response, (size_t)size);
}

static void request_upgrade(Connection* c, int port, const char* path)
{
    static const char key[] = "bWVhc3VyaW5nLXNlcnZlcg==";
    char head[MAX_REQUEST], found[64], expected[29];
    const int size = snprintf(head, sizeof head,
                              "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", path, port, key);
    if (!transmit(c, (const uint8_t*)head, (size_t)size) || !read_head(c, head))
        fail("expected an answer to the upgrade request, found the end of the stream");
    accept_value(key, expected);
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0)
        fail("expected status 101, found %.40s", head);
    if (!find_header(head, "Sec-WebSocket-Accept", found) || strcmp(found, expected) != 0)
        fail("expected Sec-WebSocket-Accept: %s, found %.60s", expected, found);
}

/* --- what a connection does ----------------------------------------------------------------------- */

static void set_blocking(Connection* c)
{
    const int flags = fcntl(c->fd, F_GETFL);
    if (flags < 0 || fcntl(c->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        fail("fcntl: %s", strerror(errno));
    c->is_spinning = 0;
}

/* Send CLOSE, and the end of the stream if `at_once`, then read to the peer's, or to its CLOSE: nothing that was sent is
   lost then. */
static void close_gracefully(Connection* c, int at_once)
{
    static const uint8_t code[2] = {1000 >> 8, 1000 & 255};
    const struct timeval patience = {.tv_sec = LINGER};
    Frame frame;
    set_blocking(c);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (!send_small(c, CLOSE, code, sizeof code))
        return;
    if (at_once) {
#ifdef WITH_TLS
        if (c->ssl != NULL) {
            ERR_clear_error();
            SSL_shutdown(c->ssl);
        }
#endif
        shutdown(c->fd, SHUT_WR);
    }
    while (next_frame(c, &frame) && frame.opcode != CLOSE)
        ;
}

static long echo_messages(Connection* c)
{
    long n = 0;
    Frame frame;
    while (next_frame(c, &frame)) {
        if (frame.opcode == CLOSE) {
            send_small(c, CLOSE, frame.payload, frame.size < 2 ? 0 : 2);
            break;
        }
        /* The mask in front of the payload makes room for a header without one. */
        uint8_t header[MAX_HEADER];
        const size_t size = put_header(header, frame.opcode, frame.size, 0);
        memcpy(frame.payload - size, header, size);
        if (!transmit(c, frame.payload - size, size + frame.size))
            break;
        n++;
    }
    return n;
}

static void fill_payload(uint8_t* payload, size_t size)
{
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(i * 131 + (i >> 8));
}

typedef struct {
    uint8_t* frame;
    size_t frame_size;
    const uint8_t* payload;
    size_t size;
} Ping;

/* Make `n` round trips; the first and the last are compared byte for byte, all others by their size. */
static void ping_pong(Connection* c, const Ping* ping, long n)
{
    Frame frame;
    for (long i = 0; i < n; i++) {
        if (!transmit(c, ping->frame, ping->frame_size) || !next_frame(c, &frame))
            fail("expected an echo, found the end of the stream");
        if (frame.opcode != BINARY || frame.size != ping->size)
            fail("expected %zu bytes of opcode %d, found %zu of %d", ping->size, BINARY, frame.size, frame.opcode);
        if ((i == 0 || i == n - 1) && memcmp(frame.payload, ping->payload, ping->size) != 0)
            fail("expected the payload back, found another of the same size");
    }
}

static void measure_echo(Connection* c, size_t size, double seconds)
{
    uint8_t* payload = allocate(size);
    uint8_t* bytes = allocate(size + MAX_HEADER);
    fill_payload(payload, size);
    const Ping ping = {bytes, put_frame(c, bytes, BINARY, payload, size), payload, size};
    long done = 0, n = 1;
    const double begin = now();
    double elapsed;
    do {
        ping_pong(c, &ping, n);
        done += n;
        n *= 2;
        elapsed = now() - begin;
    } while (elapsed < WARM_UP);
    n = (long)(seconds * (double)done / elapsed) + 1;
    const Clocks start = clocks();
    ping_pong(c, &ping, n);
    report(n, start);
    free(payload);
    free(bytes);
}

/* Wait for a message "SECONDS" or "SECONDS now" and send frames for so long; return how many. */
static long flood(Connection* c, size_t size)
{
    Frame frame;
    char text[32] = {0};
    if (!next_frame(c, &frame) || frame.opcode == CLOSE || frame.size >= sizeof text)
        fail("expected a message with a number of seconds");
    memcpy(text, frame.payload, frame.size);
    const double seconds = atof(text);
    if (!(seconds > 0 && seconds < TIMEOUT))
        fail("expected a number of seconds between 0 and %d, found '%s'", TIMEOUT, text);

    uint8_t* payload = allocate(size);
    uint8_t* block = allocate(BLOCK_SIZE + size + MAX_HEADER);
    size_t block_size = 0;
    long per_block = 0, n = 0;
    fill_payload(payload, size);
    while (block_size < BLOCK_SIZE) {
        block_size += put_frame(c, block + block_size, BINARY, payload, size);
        per_block++;
    }
    set_blocking(c);    /* the receiver sets the pace: who waits for it needs no core */
    const double end = now() + seconds;
    do {
        if (!transmit(c, block, block_size))
            fail("expected to send for %s seconds, found the end of the stream after %ld frames", text, n);
        n += per_block;
    } while (now() < end);
    close_gracefully(c, strstr(text, " now") != NULL);
    free(payload);
    free(block);
    return n;
}

/* Ask for so many seconds of frames and count them. */
static void measure_burst(Connection* c, double seconds)
{
    char text[32];
    long n = 0;
    Frame frame;
    size_t needed;
    const int size = snprintf(text, sizeof text, "%g now", seconds);
    const Clocks start = clocks();
    send_small(c, TEXT, (const uint8_t*)text, (size_t)size);
    for (;;) {
        while (take_frame(c, &frame, &needed)) {
            if (frame.opcode == CLOSE) {
                report(n, start);
                send_small(c, CLOSE, frame.payload, 2);
                return;
            }
            n++;
        }
        if (!fill(c, needed))
            fail("expected CLOSE after %ld frames, found the end of the stream", n);
    }
}

/* --- connections ---------------------------------------------------------------------------------- */

typedef struct {
    const char* cert;
    const char* key;
    const char* ca;
    int is_blocking;
    int core;           /* -1: any */
} Options;

static void open_connection(Connection* c, int fd, int is_client, const Options* options)
{
    const int one = 1;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    c->is_client = is_client;
    c->is_spinning = !options->is_blocking;
    c->capacity = READ_SIZE;
    c->data = allocate(c->capacity);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->is_spinning && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        fail("fcntl: %s", strerror(errno));
    alarm(TIMEOUT);
}

static void close_connection(Connection* c)
{
#ifdef WITH_TLS
    if (c->ssl != NULL) {
        ERR_clear_error();
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
#endif
    close(c->fd);
    free(c->data);
    alarm(0);
}

#ifdef WITH_TLS
static SSL_CTX* tls_context(int is_client, const Options* options)
{
    SSL_CTX* context = SSL_CTX_new(is_client ? TLS_client_method() : TLS_server_method());
    if (context == NULL)
        fail("TLS: %s", tls_reason());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (is_client) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        if (SSL_CTX_load_verify_locations(context, options->ca, NULL) != 1)
            fail("--ca %s: %s", options->ca, tls_reason());
    } else if (SSL_CTX_use_certificate_chain_file(context, options->cert) != 1 ||
               SSL_CTX_use_PrivateKey_file(context, options->key, SSL_FILETYPE_PEM) != 1) {
        fail("--cert %s --key %s: %s", options->cert, options->key, tls_reason());
    }
    return context;
}

/* Return 0 if the peer left during the TLS handshake. */
static int start_tls(Connection* c, SSL_CTX* context)
{
    c->ssl = SSL_new(context);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
        fail("TLS: %s", tls_reason());
    for (;;) {
        ERR_clear_error();
        errno = 0;
        const int result = c->is_client ? SSL_connect(c->ssl) : SSL_accept(c->ssl);
        if (result == 1)
            return 1;
        if (!tls_again(c, result, "TLS handshake"))
            return 0;
    }
}
#endif

static void serve_one(Connection* c)
{
    char path[64];
    if (!accept_upgrade(c, path))
        return;
    if (strcmp(path, "/echo") == 0) {
        printf("{\"n\": %ld}\n", echo_messages(c));
    } else if (strncmp(path, "/flood/", 7) == 0) {
        const long size = atol(path + 7);
        if (size < 0 || size > MAX_PAYLOAD)
            fail("expected /flood/SIZE, found %s", path);
        printf("{\"n\": %ld}\n", flood(c, (size_t)size));
    } else if (strncmp(path, "/sink/", 6) == 0) {
        measure_burst(c, atof(path + 6));
    } else {
        fail("expected /echo, /flood/SIZE or /sink/SECONDS, found %s", path);
    }
    fflush(stdout);
}

static int serve(const Options* options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    if (listening < 0 || bind(listening, (struct sockaddr*)&address, size) < 0 || listen(listening, 16) < 0 ||
        getsockname(listening, (struct sockaddr*)&address, &size) < 0)
        fail("cannot listen: %s", strerror(errno));
#ifdef WITH_TLS
    SSL_CTX* context = options->cert ? tls_context(0, options) : NULL;
#endif
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd ready[2] = {{.fd = listening, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        char ignored[64];
        if (poll(ready, 2, -1) < 0 && errno != EINTR)
            fail("poll: %s", strerror(errno));
        if (ready[1].revents && read(0, ignored, sizeof ignored) <= 0)
            return 0;       /* whoever started us is gone */
        if (!(ready[0].revents & POLLIN))
            continue;
        Connection c;
        const int fd = accept(listening, NULL, NULL);
        if (fd < 0)
            fail("accept: %s", strerror(errno));
        open_connection(&c, fd, 0, options);
#ifdef WITH_TLS
        if (context == NULL || start_tls(&c, context))
#endif
            serve_one(&c);
        close_connection(&c);
    }
}

static int run_client(const char* what, int port, long size, double seconds, const Options* options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char path[64];
    Connection c;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((uint16_t)port);
    if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) < 0)
        fail("cannot connect to port %d: %s", port, strerror(errno));
    open_connection(&c, fd, 1, options);
#ifdef WITH_TLS
    if (options->ca && !start_tls(&c, tls_context(1, options)))
        fail("the server left during the TLS handshake");
#endif
    if (strcmp(what, "echo") == 0) {
        request_upgrade(&c, port, "/echo");
        measure_echo(&c, (size_t)size, seconds);
    } else if (strcmp(what, "burst") == 0) {
        snprintf(path, sizeof path, "/flood/%ld", size);
        request_upgrade(&c, port, path);
        measure_burst(&c, seconds);
    } else {
        snprintf(path, sizeof path, "/sink/%g", seconds);
        request_upgrade(&c, port, path);
        printf("{\"n\": %ld}\n", flood(&c, (size_t)size));
    }
    close_connection(&c);
    return 0;
}

static int usage(void)
{
    fputs("usage: limit serve | limit client echo|burst|flood PORT SIZE SECONDS\n"
          "       [--block] [--core N] [--cert FILE --key FILE] [--ca FILE]\n", stderr);
    return 2;
}

int main(int argc, char** argv)
{
    Options options = {.core = -1};
    const char* words[6];
    int count = 0;
    for (int i = 1; i < argc; i++) {
        const char* value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--block") == 0) {
            options.is_blocking = 1;
        } else if (strncmp(argv[i], "--", 2) == 0) {
            if (value == NULL)
                return usage();
            if (strcmp(argv[i], "--core") == 0)
                options.core = atoi(value);
            else if (strcmp(argv[i], "--cert") == 0)
                options.cert = value;
            else if (strcmp(argv[i], "--key") == 0)
                options.key = value;
            else if (strcmp(argv[i], "--ca") == 0)
                options.ca = value;
            else
                return usage();
            i++;
        } else if (count < 6) {
            words[count++] = argv[i];
        } else {
            return usage();
        }
    }
#ifndef WITH_TLS
    if (options.cert || options.ca)
        fail("built without TLS");
#endif
#ifdef __linux__
    if (options.core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(options.core, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores) < 0)
            fail("--core %d: %s", options.core, strerror(errno));
    }
#endif
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, on_alarm);
    if (count == 1 && strcmp(words[0], "serve") == 0 && !options.cert == !options.key)
        return serve(&options);
    if (count == 5 && strcmp(words[0], "client") == 0) {
        const long size = atol(words[3]);
        const double seconds = atof(words[4]);
        if ((strcmp(words[1], "echo") && strcmp(words[1], "burst") && strcmp(words[1], "flood")) || size < 0 ||
            size > MAX_PAYLOAD || !(seconds > 0 && seconds < TIMEOUT))
            return usage();
        return run_client(words[1], atoi(words[2]), size, seconds, &options);
    }
    return usage();
}
