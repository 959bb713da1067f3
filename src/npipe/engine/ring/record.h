/* What an owner writes into the memory of a tracer (docs/protocol.md, section 9): a ring of records, which the tracer
 * has made and both have mapped. Little-endian. */
#ifndef NPIPE_RING_RECORD_H
#define NPIPE_RING_RECORD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define NPR_MAGIC UINT32_C(0x5254504e) /* "NPTR" */
#define NPR_VERSION 1
#define NPR_HEADER_SIZE 4096
#define NPR_MIN_RING (UINT64_C(1) << 16)
#define NPR_MAX_RING (UINT64_C(1) << 28)

enum npr_kind {
    NPR_DATA = 1,    /* bytes came into a ring, or were taken out of one; or were withdrawn */
    NPR_OPENED = 2,  /* a connection begins */
    NPR_PRESENT = 3, /* it was there when the trace began */
    NPR_CLOSED = 4,  /* the traced process has ended its end: `code` is what the peer is told */
    NPR_GONE = 5,    /* the other end is closed, or its process has died */
};

enum npr_flags {
    NPR_OUT = 1,       /* from the traced process to its peer */
    NPR_FIRST = 2,     /* the first bytes of a write, */
    NPR_LAST = 4,      /* the last ones */
    NPR_WITHDRAWN = 8, /* the rest of the write does not come: it was cancelled, or timed out, or its process died */
    NPR_SERVER = 16,   /* the traced end is the server's */
    NPR_MESSAGE = 32,  /* of a message-type pipe */
};

struct npr_header {
    uint32_t magic, version;
    uint64_t capacity; /* of the ring behind this page: a power of two */
    uint8_t to_owner[48];
    /* Written by the owner: */
    _Atomic uint64_t tail; /* bytes of records so far */
    _Atomic uint64_t lost; /* records that found no room, so far */
    uint8_t to_tracer[48];
    /* Written by the tracer: */
    _Atomic uint64_t head;  /* bytes that it has read */
    _Atomic uint32_t waits; /* it sleeps: the owner sends a byte through the socket, and clears it */
};

/* Each begins at a multiple of 8; header and content may go over the ring's end. */
struct npr_record {
    uint32_t size; /* of all of it, with what fills it up to a multiple of 8 */
    uint16_t kind, flags;
    int64_t time;        /* nanoseconds since 1970 */
    uint64_t connection; /* the process's own number of it, from 1 */
    uint32_t pid;        /* of the peer; 0: not known here */
    uint32_t code;       /* Win32's: 0, or why it is withdrawn or closed */
    uint32_t sequence;   /* of a deferred entry 1 + its number, for WITHDRAWN; else 0 */
    uint32_t total;      /* bytes of the write */
    uint32_t offset;     /* of these bytes in it */
    uint32_t length;     /* how many these are */
    uint32_t captured;   /* and how many of them follow */
    uint32_t lost;       /* records that were lost right before this one */
};

_Static_assert(sizeof(struct npr_record) == 56, "docs/protocol.md");
_Static_assert(offsetof(struct npr_header, tail) == 64 && offsetof(struct npr_header, head) == 128, "docs/protocol.md");

#endif
