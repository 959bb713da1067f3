/* An overlapped operation: its state, its place in the lists, and how its completion is told. */
#ifndef NPIPE_OVERLAPPED_OPERATION_H
#define NPIPE_OVERLAPPED_OPERATION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>

#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "handle/objects.h"

struct np_handle;
struct np_status_block;
struct npl_consumer;

enum np_async_kind { NP_ASYNC_READ = 1, NP_ASYNC_WRITE, NP_ASYNC_CONNECT, NP_ASYNC_TRANSACT };

struct np_async_links {
    struct np_async *next, *previous;
};

struct np_async {
    struct np_op op; /* first: the queues hold it */
    _Atomic uint32_t refs;
    enum np_async_kind kind;
    struct np_handle *handle; /* held */
    struct np_link *link;     /* held while it is pended in a queue of it */
    struct np_thread *thread; /* held: who has issued it */
    uint64_t ended; /* when it was told, by np_async_clock: for an OVERLAPPED that several operations share */
    bool message_mode;
    /* How its completion is told. */
    struct np_object *event; /* held, or NULL: then `file` */
    struct np_object *file;  /* held */
    struct np_object *port;  /* held, or NULL */
    uint64_t key;
    bool apc, no_packet;
    struct np_apc own_apc;
    struct np_packet own_packet;
    /* The result. Code NP_IO_PENDING: not yet. Stored last, with release. */
    _Atomic uint32_t code;
    uint32_t count;
    struct np_status_block *block; /* the program's OVERLAPPED, told with the code; or NULL */
    void *owner; /* the program's reference, to be given back after the completion */
    struct np_async *next_finished;
    /* Lists, guarded by the objects' lock. */
    struct np_async_links of_object, of_port, of_thread, of_handle, of_pair;
    struct np_async *next_connect; /* of its handle, guarded by the process lock */
    uint64_t pair; /* the link's token if this process has both its ends, or 0 */
    bool listed, cancelling;
    bool by_start; /* completed by its start, which is the only one who knows of it */
    /* What has to move before there is anything to do. */
    _Atomic uint64_t seen_tail, seen_consumed, seen_taken;
    _Atomic uint32_t seen_rewinds;
    _Atomic(const uint8_t *) seen_next; /* np_rx_awaited's */
    _Atomic bool seen_early;
};

struct np_async *np_async_new(void);
void np_async_ref(struct np_async *async);
void np_async_unref(struct np_async *async);
/* Whether it is over and nobody but the caller has it. */
bool np_async_reusable(const struct np_async *async);
/* The handle's operations queue packets to the port from now on, those under way too (SEMANTICS 10.6). */
void np_async_bind(struct np_handle *handle, struct np_object *port, uint64_t key);

static inline uint32_t np_async_code(const struct np_async *async)
{
    return atomic_load_explicit(&async->code, memory_order_acquire);
}

/* A link whose both ends are in this process (a pair). A call that moves one end drives what is pended on the other one
 * at once, so that packets, routines and events come in the order of the calls that caused them. Completions that
 * another process causes come in the order in which this one finds them.
 *   np_async_pair  what np_async_drive_pair is to be given once the locks are released; 0: nothing */
extern _Atomic uint32_t np_async_local; /* how many operations are pended on such links */
uint64_t np_async_pair_of(const struct np_link *link);
static inline uint64_t np_async_pair(const struct np_link *link)
{
    /* Relaxed: for a caller for whom the start came before this call it is counted. */
    return atomic_load_explicit(&np_async_local, memory_order_relaxed) && link ? np_async_pair_of(link) : 0;
}
/* How many operations have been told so far. */
uint64_t np_async_clock(void);

/* Operations that are told, and whose owners' references are to be given back: one, or NULL. */
struct np_async *np_async_reap(void);
bool np_async_any_finished(void);

void np_async_complete(struct np_async *async, uint32_t code, uint32_t count);
static inline struct np_async *np_async_of(struct np_op *op)
{
    return (struct np_async *)op;
}
/* op->completed of a pended operation. */
void np_async_completed(struct np_op *op);
/* Whether what it waits for has moved since it was noted. */
bool np_async_has_moved(const struct np_async *async);
/* The instance has left the listening state (process lock held). */
void np_async_end_connects(struct np_handle *handle);
/* Ends the one that began first with NP_NO_SYSTEM_RESOURCES. False: none is pending. With the process lock held. */
bool np_async_fail_connect(struct np_handle *handle);
/* What has to move before a pending operation can go on, for a thread that looks at it again and again without any
 * lock. */
struct np_snapshot {
    struct np_handle *handle; /* held */
    struct np_link *link;     /* held */
    const uint8_t *next;      /* np_rx_awaited's */
    bool write, early;
    uint64_t tail, consumed, taken; /* a write's: the head in place of the tail */
    uint32_t rewinds;
};
#define NP_MOST_SNAPSHOTS 4
struct np_snapshots {
    uint32_t count;
    struct np_snapshot items[NP_MOST_SNAPSHOTS];
};

static inline bool np_snapshot_moved(const struct np_snapshot *snapshot)
{
    const struct np_link *link = snapshot->link;
    if (!np_link_quiet(link))
        return true;
    if (snapshot->write) {
        const struct npl_consumer *consumer = &link->tx.shared->consumer;
        return atomic_load_explicit(&consumer->head, memory_order_acquire) != snapshot->tail ||
               atomic_load_explicit(&consumer->consumed, memory_order_acquire) != snapshot->consumed ||
               atomic_load_explicit(&consumer->taken, memory_order_acquire) != snapshot->taken;
    }
    const struct np_rx_awaited awaited = {link, snapshot->tail, snapshot->rewinds, snapshot->early, snapshot->next};
    return np_rx_moved(&awaited);
}

/* Adds the operation's handle to `handles`, held, if it is not among them. The new count. */
uint32_t np_async_add_handle(const struct np_async *async, struct np_handle **handles, uint32_t count);
/* Handles (at most `most`, each held) whose operations on a link of this process may go on; takes the objects' lock. */
uint32_t np_async_moved_pair(uint64_t token, struct np_handle **handles, uint32_t most);
void np_async_add_connect(struct np_async *async);
bool np_async_cancel_connect(struct np_async *async);
/* Event, port or routine of a completed operation. */
void np_tell(struct np_async *async);

/* One pending write more or less on its handle. */
void np_async_count_write(struct np_async *async, int change);

/* It is under way from now on, with a reference of its own until it is told. */
void np_async_enlist(struct np_async *async, struct np_link *link);

/* With the objects' lock: out of all lists. */
void np_async_delist(struct np_async *async);

/* With the objects' lock: the result, and its telling. Whether somebody else takes the operation on from there, with a
 * reference: the thread that its routine is queued to, the port. */
bool np_async_tell(struct np_async *async, uint32_t code, uint32_t count);

/* What has to move, as it is now; the caller holds the handle and the link. */
struct np_snapshot np_snapshot_of(const struct np_async *async);

#endif
