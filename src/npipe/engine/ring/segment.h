/* The segment of one link: the single description of its layout (docs/protocol.md says it in words).
 *
 * A link is one memfd: a header page, then two rings. Ring 0 carries what the client writes (inbound),
 * ring 1 what the server writes (outbound). All integers are little-endian, as on every platform that
 * the engine runs on.
 *
 * Nothing in the segment is trusted: each side keeps its own positions in private memory, and what it
 * stores here is an announcement for the other side, which loads it once and checks it.
 *
 * Every group of words that one side writes has lines of its own, 128 bytes apart (processors fetch
 * lines in pairs), so that a side that only looks does not disturb a side that works. */
#ifndef NPIPE_LAYOUT_H
#define NPIPE_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the segment is little-endian"
#endif

#define NPL_MAGIC UINT32_C(0x4b4c504e) /* "NPLK" */
#define NPL_VERSION 2
#define NPL_LINE 128
#define NPL_HEADER_SIZE 4096
#define NPL_DEFERRED 32 /* deferred entries that may stand in a ring at once */
#define NPL_POSTS 16    /* pending reads that are advertised at once */
#define NPL_MIN_RING (UINT64_C(1) << 16)
#define NPL_MAX_RING (UINT64_C(1) << 31)

enum npl_ring { NPL_INBOUND = 0, NPL_OUTBOUND = 1 };
enum npl_side { NPL_SERVER = 0, NPL_CLIENT = 1 };

/* An end's own word on how it is. Anything else counts as closed. */
enum npl_end_state {
    NPL_END_OPEN = 1,         /* in use */
    NPL_END_CLOSED = 2,       /* handle closed: what it wrote stays readable */
    NPL_END_DISCONNECTED = 3, /* DisconnectNamedPipe, server only: all is discarded */
    NPL_END_ABORTED = 4,      /* closed, and what it wrote is discarded */
};

/* Bits of npl_sleep.flags: set by the side that waits, taken away by the side that wakes it. */
enum npl_sleep_flags {
    NPL_SLEEP_READ = 1,  /* a thread sleeps on seq until something is written */
    NPL_SLEEP_WRITE = 2, /* a thread sleeps on seq until a threshold below is reached */
    NPL_ARMED_READ = 4,  /* send one byte through the socket when something is written */
    NPL_ARMED_WRITE = 8, /* the same when a threshold is reached */
    NPL_POSTED = 16,     /* reads have been advertised: look into the posts (stays set) */
    NPL_CONTENDED = 32,    /* with NPL_ARMED_READ: others want the processors, so better sleep too than spin */
};

/* State of a deferred entry; a slot's word is (sequence number << 3) | state. */
enum npl_entry_state {
    NPL_ENTRY_MOVING = 0,    /* cancelled, and the producer is just moving the tail back over it */
    NPL_ENTRY_LIVE = 1,      /* not begun */
    NPL_ENTRY_BUSY = 2,      /* the consumer is copying from it */
    NPL_ENTRY_PARTIAL = 3,   /* begun, and nobody is copying */
    NPL_ENTRY_WITHDRAWN = 4, /* cancelled: skip the slot's `put` bytes less those taken already */
    NPL_ENTRY_DONE = 5,      /* read to its end, or skipped */
    NPL_ENTRY_REWOUND = 6,   /* cancelled, and the tail has gone back to before its header */
    NPL_ENTRY_CUT = 7,       /* cancelled, and the tail has gone back to the head: nothing is left of it */
};

/* First byte of an entry in a ring. The header and a plain entry's payload are published at once. */
enum npl_tag {
    NPL_TAG_SHORT = 0x00,   /* 0lllllll: plain, 0..127 bytes of payload follow */
    NPL_TAG_MEDIUM = 0x80,  /* 10hhhhhh llllllll: plain, 0..16383 */
    NPL_TAG_LONG = 0xc0,    /* then u32: plain */
    NPL_TAG_DEFERRED = 0xc1 /* then u8 slot, u32 length: its write was not complete when it was queued */
};
#define NPL_MAX_ENTRY_HEADER 6

/* What the server fixes before it shares the segment. Read once by the client, then never again. */
struct npl_header {
    uint32_t magic;
    uint32_t version;
    uint64_t size;             /* of the whole segment */
    uint64_t ring_offset[2];   /* from the segment's start */
    uint64_t ring_capacity[2]; /* powers of two */
    uint32_t quota[2];         /* bytes: nInBufferSize, nOutBufferSize */
    uint32_t type;             /* 4 message, 0 byte */
    uint32_t direction;        /* 1 inbound, 2 outbound, 3 duplex */
    uint32_t server_pid;       /* of the instance's creator */
    uint32_t client_pid;
    uint64_t token;            /* by which the same client may offer the segment for its next connection */
};

/* Written by the producer of a ring. */
struct npl_producer {
    alignas(NPL_LINE) _Atomic uint64_t tail; /* ring bytes published */
    _Atomic uint64_t announced; /* payload of all entries, also those that wait outside the ring; less withdrawn */
};

/* Also written by the producer, but seldom, and read with each entry: so they are not in the line that moves with
 * each. */
struct npl_takebacks {
    /* Moves when the tail has gone back, so that what was read behind it before is void; when a withdrawal is over,
     * also of what was only announced; and when the ring has begun anew. */
    alignas(NPL_LINE) _Atomic uint32_t rewinds;
    /* The position whose byte stands at the ring's offset 0. It moves only while the ring is empty, to the tail, and
     * the count above moves after it. */
    _Atomic uint64_t begin;
};

/* Written by the consumer of a ring. */
struct npl_consumer {
    alignas(NPL_LINE) _Atomic uint64_t head; /* ring bytes free again */
    _Atomic uint64_t consumed;               /* payload bytes delivered to reads */
    _Atomic uint64_t taken;                  /* entries finished */
};

/* Pending reads of a ring's consumer, as numbers that only grow: read k stands in size[k % NPL_POSTS]. */
struct npl_posts {
    alignas(NPL_LINE) _Atomic uint32_t posted; /* reads advertised so far */
    _Atomic uint32_t finished;                 /* of these, how many are over */
    _Atomic uint32_t size[NPL_POSTS];          /* bytes asked for */
};

/* Deferred entries of a ring: both sides compare and swap `state`, the producer writes `put`. */
struct npl_deferred {
    alignas(NPL_LINE) _Atomic uint32_t state[NPL_DEFERRED];
    _Atomic uint32_t put[NPL_DEFERRED]; /* payload bytes in the ring of an entry that was withdrawn */
};

struct npl_direction {
    struct npl_producer producer;
    struct npl_consumer consumer;
    struct npl_posts posts;
    struct npl_deferred deferred;
    struct npl_takebacks takebacks;
};

/* How one side sleeps. `seq` is the futex word of all its threads. */
struct npl_sleep {
    alignas(NPL_LINE) _Atomic uint32_t flags;
    _Atomic uint32_t seq;
    _Atomic uint64_t wake_head;     /* wake the writer when its ring's head has come this far, */
    _Atomic uint64_t wake_consumed; /* or this much is consumed, */
    _Atomic uint64_t wake_taken;    /* or so many entries are finished; UINT64_MAX: not for this */
};

struct npl_side_state {
    alignas(NPL_LINE) _Atomic uint32_t end_state;
};

struct npl_segment {
    struct npl_header header;
    struct npl_side_state side[2];
    struct npl_sleep sleep[2];
    struct npl_direction direction[2];
};

_Static_assert(sizeof(struct npl_header) <= NPL_LINE, "the header is one line");
_Static_assert(offsetof(struct npl_segment, side) == 128, "docs/protocol.md");
_Static_assert(offsetof(struct npl_segment, sleep) == 384, "docs/protocol.md");
_Static_assert(offsetof(struct npl_segment, direction) == 640, "docs/protocol.md");
_Static_assert(sizeof(struct npl_direction) == 768, "docs/protocol.md");
_Static_assert(offsetof(struct npl_direction, consumer) == 128, "docs/protocol.md");
_Static_assert(offsetof(struct npl_direction, posts) == 256, "docs/protocol.md");
_Static_assert(offsetof(struct npl_direction, deferred) == 384, "docs/protocol.md");
_Static_assert(offsetof(struct npl_direction, takebacks) == 640, "docs/protocol.md");
_Static_assert(sizeof(struct npl_segment) <= NPL_HEADER_SIZE, "the header page holds it all");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics between processes");

#endif
