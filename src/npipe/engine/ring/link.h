/* One end's view of a link: the mapped segment, the socket that tells of the peer's death, and the private truth about
 * both rings. A link serves one connection and is never used again. */
#ifndef NPIPE_RING_LINK_H
#define NPIPE_RING_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/wait.h"
#include "ring/segment.h"

struct np_handle;
struct np_kept;
struct np_mirror;
struct np_op;
struct np_tap;

/* The consuming side of a ring. Guarded by its handle's rx_lock. */
struct np_rx {
    struct npl_direction *shared;
    const uint8_t *ring;
    uint64_t capacity;
    uint64_t head;     /* the next ring byte to take: the truth, of which shared head is the announcement */
    uint64_t begin;    /* the position that stands at the ring's offset 0, as the producer has it */
    uint64_t tail;     /* the producer's last announcement that was checked */
    uint32_t rewinds;  /* its number of rewinds, read before it */
    uint64_t consumed; /* payload bytes delivered */
    uint64_t taken;    /* entries finished */
    uint32_t quota;    /* of this direction */
    /* The entry at the head, once its header is parsed. */
    uint64_t entry;     /* grows with each header that is parsed */
    bool active, deferred;
    bool claimed;       /* something of it was read: it is not rewound any more, only cut */
    uint8_t slot;
    uint8_t header;     /* bytes */
    uint32_t sequence;  /* of a deferred entry */
    uint32_t total;     /* its payload */
    uint32_t pulled;    /* payload bytes taken out of the ring: delivered, or in the stash, or in a read under way */
    uint32_t delivered; /* payload bytes that reads have delivered */
    uint32_t next_sequence;
    /* Bytes of the head entry that were taken out of the ring but not delivered (a read that timed out while
     * a long message was streaming, a peek further than the ring). */
    uint8_t *stash;
    uint32_t stash_length, stash_begin;
    struct np_back *back; /* what reads took and could not deliver, the next to be read (ring/back.h) */
    uint64_t backs;       /* so many there were */
    bool may_come_back; /* so nobody sleeps on the socket, where only the peer can wake it (np_will_put_back) */
    bool trimmed;    /* the peer has died, and `trim` is known: */
    uint64_t trim;   /* deferred entries that end beyond this were not written yet */
    struct np_op *first, *last; /* pending reads, in order */
    uint32_t posted, finished;  /* as announced */
    bool polled;    /* a selector or an event loop waits for the socket: its bytes are for that */
    bool on_socket; /* a read sleeps on it: what comes through it is for that read */
    /* this reader says when it pauses (np_rx_pause), so that a wake of the writer may wait for that */
    bool may_defer_wake;
    bool wake_deferred;
    struct np_spin spin, stream; /* for the next entry, for the rest of one */
    _Atomic uint32_t streak;     /* entries read since this end last wrote one: from some on it is a stream */
    _Atomic int32_t by_socket;   /* sleeps on the socket that are left */
    _Atomic int64_t contended;     /* until then, says the peer, others want the processors; a guess, so relaxed */
};

/* A deferred entry that may still stand in the ring. */
struct np_outstanding {
    uint64_t number; /* of the entry: over when the consumer has taken so many */
    uint64_t begin;  /* ring position of its header */
    uint32_t sequence;
    bool put, withdrawn;
};

#define NP_RECENT 64
struct np_recent {
    uint64_t end; /* position among all payload */
    uint32_t size;
};

/* The producing side of a ring. Guarded by its handle's tx_lock. */
struct np_tx {
    struct npl_direction *shared;
    uint8_t *ring;
    uint64_t capacity;
    uint64_t tail;      /* the truth */
    uint64_t begin;     /* the position that stands at the ring's offset 0: the truth */
    uint64_t look_at;   /* a write that begins here or behind looks whether the ring can begin anew */
    int64_t looked;     /* when that was done last, */
    uint64_t looked_at; /* and the tail then */
    uint64_t stir_at;   /* a tail beyond it makes memory that is to be given back; UINT64_MAX: that is known */
    uint64_t head;      /* the consumer's last announcements that were checked */
    uint64_t consumed;
    uint64_t taken;
    uint64_t announced; /* payload of all live entries so far */
    uint64_t outside;   /* of this, what does not stand in the ring yet: of writes that are pending */
    uint64_t hidden;    /* and what the peer is not told of: it is reserved, and perhaps never written */
    uint64_t entries;   /* number of entries so far */
    uint64_t last_put;  /* number of the last entry in the ring */
    uint64_t handed;    /* payload position up to which pending reads have been promised the data */
    uint64_t next_recent;
    uint32_t n_recent;
    uint32_t quota;
    uint32_t most; /* bytes of a message, and then none is empty; 0: any */
    uint32_t next_sequence;
    uint32_t first_outstanding, n_outstanding;
    struct np_op *first, *last; /* pending writes, in order */
    uint32_t attached;          /* of these, how many are somebody's who is told when they are done */
    struct np_op *flushes;
    uint64_t kept;      /* memory that pending writes take which are nobody's any more (np_tx_detach) */
    uint32_t sleepers;  /* threads that wait for room or for a flush */
    uint32_t awaiting_put; /* threads that wait until writes stand in the ring, where they may stay pending */
    uint32_t rewinds;
    struct np_spin spin, stream; /* until a pending write is over, until there is room for one */
    struct np_recent recent[NP_RECENT]; /* the last entries, for playing pending reads through */
    struct np_outstanding outstanding[NPL_DEFERRED];
};

/* What is counted beside what the rings need: only where something is rare or slow anyway. The first half is guarded by
 * the handle's rx_lock, the second by its tx_lock. */
struct np_tally {
    uint64_t rx_void;     /* of np_rx.taken: entries that no read has had to its end */
    uint64_t rx_sleeps;   /* how often a thread slept for data */
    int64_t rx_since;     /* since when one does, */
    uint32_t rx_sleepers; /* and how many */
    uint32_t tx_sleepers; /* for room or for a flush */
    int64_t tx_since;
    uint64_t tx_sleeps;
    uint64_t tx_void; /* of np_tx.entries: those that were withdrawn where they stood */
};

/* Why a link needs a closer look; zero in ordinary use. */
enum np_alert {
    NP_ALERT_CLOSING = 1,      /* this end is being closed */
    NP_ALERT_GONE = 2,         /* the peer's socket hung up */
    NP_ALERT_BROKEN = 4,       /* the peer broke the rules of the segment */
    NP_ALERT_DISCONNECTED = 8, /* this (server) end disconnected */
    NP_ALERT_FORKED = 16,      /* this process is a child of the one that the link belongs to */
    NP_ALERT_UNWATCHED = 32,   /* the native thread does not watch the socket (yet): look at it oneself */
};

struct np_link {
    struct npl_segment *segment;
    uint64_t size;
    int socket;
    int fd; /* the segment's, of a link that may go to another process (travel/); -1: not kept */
    enum npl_side side;
    _Atomic uint32_t refs;  /* the handle's, and one for each thread that waits */
    _Atomic uint32_t alert; /* np_alert bits */
    /* Who looks on (ring/tap.h), or NULL: beside the alert, which every call looks at. */
    _Atomic(struct np_tap *) tap;
    struct npl_sleep *sleep, *peer_sleep;
    _Atomic uint32_t *state, *peer_state;
    uint32_t type, direction;
    uint32_t quota[2];
    uint32_t server_pid, client_pid;
    pid_t peer_pid;
    uid_t peer_uid;
    uint64_t watch; /* the native thread's name for it, 0: not watched */
    uint64_t token;
    uint64_t number; /* among the connections of this process, from 1 */
    struct np_tap *tap_kept; /* held, as long as the link is, once it was traced; guarded by the process lock */
    bool told_end; /* those who look on; guarded by the process lock */
    struct np_handle *handle; /* whose link it is; guarded by the process lock */
    bool events;    /* the native thread reads the socket */
    bool keep;      /* the segment is worth keeping for the next connection of the same two */
    /* Among those that have memory to give back; guarded by that list's lock (ring/idle.c). */
    bool stirred;
    uint64_t idle_tail; /* as the last look saw it, */
    int64_t idle_since; /* first then */
    struct np_link *next_stirred, *previous_stirred;
    struct np_link *next, *previous; /* all of the process, with np_fds_hold */
    /* Of a server's end: the client of another machine for whom the peer has opened it, as pipe/messages.h has it
     * (struct npw_remote), or NULL. Does not change. */
    void *remote;
    uint32_t remote_size;
    void *unshared[2]; /* what stands in for a direction that the peer has no right to; NULL: nothing */
    struct np_mirror *mirror[2]; /* by np_mirror_side, guarded by its lock; NULL: not made yet, or */
    bool no_mirror[2];           /* it cannot be */
    struct np_rx rx;
    struct np_tx tx;
    struct np_tally tally;
    int64_t since; /* when it began, np_wall_clock() */
};

/* A thread goes to sleep for data, and is awake again; with rx_lock. */
static inline void np_tally_read_sleeps(struct np_tally *tally)
{
    tally->rx_sleeps++;
    if (tally->rx_sleepers++ == 0)
        tally->rx_since = np_now();
}

static inline void np_tally_read_woke(struct np_tally *tally)
{
    tally->rx_sleepers--;
}

/* The same for room or a flush; with tx_lock. */
static inline void np_tally_write_sleeps(struct np_tally *tally)
{
    tally->tx_sleeps++;
    if (tally->tx_sleepers++ == 0)
        tally->tx_since = np_now();
}

static inline void np_tally_write_woke(struct np_tally *tally)
{
    tally->tx_sleepers--;
}

struct np_link_shape {
    uint32_t type, direction;
    uint32_t quota[2]; /* inbound, outbound */
    uint32_t server_pid;
};

/* The number of one more connection of this process, that is no link's. */
uint64_t np_link_new_number(void);
/* A new segment and the server's end of it; *fd is the descriptor to hand over (the caller closes it, or lets the link
 * have it). */
uint32_t np_link_create(const struct np_link_shape *shape, struct np_link **link, int *fd);
/* The size of such a segment. */
uint64_t np_link_size(const struct np_link_shape *shape);
/* The same in a segment that was kept, which is taken over. */
uint32_t np_link_create_again(const struct np_link_shape *shape, const struct np_kept *kept, struct np_link **link);
/* The segment lets both sides write everywhere, so the server's end of a direction that the client has opened without
 * the right to (`access`: NP_READ | NP_WRITE) is moved out of it: what the client writes there is not read, and what
 * the server writes it cannot see. False: no memory. */
bool np_link_unshare(struct np_link *link, uint32_t access);
/* The client's end of the segment in `fd`, which is checked; takes neither `fd` nor `socket` on failure, and never
 * `fd`. */
uint32_t np_link_accept(int fd, int socket, struct np_link **link);
/* The same for an end that another process has had: the server's too. The private truth about the rings is the caller's
 * to fill in. */
uint32_t np_link_take_over(int fd, int socket, enum npl_side side, struct np_link **link);
/* The same for a segment that was kept, which is taken over. */
uint32_t np_link_accept_again(const struct np_kept *kept, int socket, struct np_link **link);
void np_link_ref(struct np_link *link);
void np_link_unref(struct np_link *link);
/* In a forked child, whose parent's they are: says so in all of them, also those that only a thread's stack knows. */
void np_links_after_fork(void);

void np_link_alert(struct np_link *link, uint32_t bits);
/* Looks whether the peer's socket has hung up, and if so sets NP_ALERT_GONE. Whether it has. `waits`: the caller is one
 * of those who wait on the link. */
bool np_link_look(struct np_link *link, bool waits);
/* Wakes every thread of this process that sleeps on the link. */
void np_link_wake_own(struct np_link *link);
/* Wakes the peer after a change of state. */
void np_link_wake_peer(struct np_link *link);
/* Takes the bytes that woke this end out of its socket. Whether there were any. */
bool np_link_drain_socket(struct np_link *link);
#define NP_MOST_DRAINED 16 /* of them at a time: more than one who keeps to the rules leaves there */
/* Tells those who look on that this end is about to end, once. With the process lock held. */
void np_link_tell_end(struct np_link *link, enum npl_end_state state);
/* The same of an end that goes to another process, or goes on without a handle: this one tells no more of it. */
void np_link_tell_departure(struct np_link *link);
/* Sets this end's last word and tells the peer. If the socket is closed right after (`hangs_up`), that tells those who
 * wait for the socket. */
void np_link_end(struct np_link *link, enum npl_end_state state, bool hangs_up);

/* Ends the link because the peer broke its rules. Returns NP_INVALID_DATA. */
uint32_t np_link_violated(struct np_link *link);

/* NP_OK while both ends are there; else why not:
 * NP_INVALID_HANDLE closed here, NP_PIPE_NOT_CONNECTED disconnected by the server, NP_INVALID_DATA broken,
 * NP_BROKEN_PIPE the peer has closed or died. */
uint32_t np_link_condition(const struct np_link *link);

/* Whether nothing is known that ends the link: for waits, which are told when that changes. */
static inline bool np_link_quiet(const struct np_link *link)
{
    return (atomic_load_explicit(&link->alert, memory_order_acquire) & ~(uint32_t)NP_ALERT_UNWATCHED) == 0 &&
           atomic_load_explicit(link->peer_state, memory_order_acquire) == NPL_END_OPEN;
}

/* np_link_condition for the hot path. */
static inline uint32_t np_link_known(const struct np_link *link)
{
    return np_link_quiet(link) ? NP_OK : np_link_condition(link);
}

/* The same, and of a link that nobody watches it is found out here and now. */
static inline uint32_t np_link_check(struct np_link *link)
{
    if (atomic_load_explicit(&link->alert, memory_order_relaxed) == NP_ALERT_UNWATCHED)
        np_link_look(link, false);
    return np_link_known(link);
}

/* After something was published: wakes the peer if it sleeps for it. `kinds`: NPL_SLEEP_* | NPL_ARMED_*. */
void np_link_wake_sleeper(struct np_link *link, uint32_t kinds);

#endif
