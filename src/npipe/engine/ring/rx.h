/* A ring's consuming side. All functions are called with the handle's rx_lock. */
#ifndef NPIPE_RING_RX_H
#define NPIPE_RING_RX_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>

#include "ring/link.h"
#include "ring/op.h"
#include "ring/segment.h"

struct np_link;
struct np_rx;
struct npl_direction;

/* Makes the head entry known: NP_OK, NP_WOULD_WAIT (the ring is empty) or NP_INVALID_DATA. */
uint32_t np_rx_settle(struct np_link *link);
/* Unread bytes of the head entry; of these, how many can be copied now. After np_rx_settle gave NP_OK. */
uint32_t np_rx_rest(const struct np_rx *rx);
uint32_t np_rx_available(const struct np_rx *rx);

/* Moves a read on. An attempt either delivers what it has consumed or consumes nothing:
 *   NP_OK          the read is done; op->code and op->count say how. Byte mode: also when something ended it that would
 *                  have been an error, had the read taken nothing before; the next one meets that.
 *   NP_WOULD_WAIT  nothing is there, or the rest is still to come. With `try_only` nothing was consumed, and `op` may
 *                  be dropped. Else a byte-mode read may have taken a part (np_op_has_taken) and a message-mode read
 *                  may have copied one; the same `op` goes on with it, and whoever ends it first delivers it or puts
 *                  it back (np_rx_give_back here, np_back_put in ring/back.h).
 *   other          nothing was consumed. */
uint32_t np_rx_read(struct np_link *link, struct np_op *op, bool message_mode, bool try_only);
/* Puts what a message-mode read under way has copied back, so that nothing is consumed. False: no memory. */
bool np_rx_give_back(struct np_link *link, struct np_op *op);
/* Whether something was put back (ring/back.h), which is read before everything else. */
static inline bool np_rx_has_back(const struct np_link *link)
{
    return link->rx.back != NULL;
}

/* For a whole message: what comes next, and how long it is; NP_OK or what np_rx_settle says. Whether that still comes
 * next. */
uint32_t np_rx_head(struct np_link *link, uint64_t *entry, uint32_t *size);
bool np_rx_is_head(const struct np_link *link, uint64_t entry);
/* Copies bytes [op->count, upto) of it without consuming them. NP_OK, NP_WOULD_WAIT, NP_RETRY when it has gone. Then
 * consumes its first `size` bytes, all at once. */
uint32_t np_rx_copy(struct np_link *link, struct np_op *op, uint64_t entry, uint8_t *buffer, uint32_t upto);
uint32_t np_rx_consume(struct np_link *link, uint64_t entry, uint32_t size);

/* Reads the next `size` bytes of a plain head entry, which has as many, into several buffers. */
void np_rx_take_parts(struct np_link *link, const struct iovec *parts, uint32_t size);

/* The next `size` bytes of a plain head entry, which has as many, were looked at in place: np_rx_consume follows. */
void np_rx_pass(struct np_link *link, uint32_t size);

/* The peer is gone: whatever entry is not wholly in the ring will never be. Returns whether there was one. */
bool np_rx_drop_incomplete(struct np_link *link);
/* The peer has died: its deferred writes were not complete, and vanish (SEMANTICS 10.4). */
void np_rx_trim(struct np_link *link);

/* Copies up to `size` bytes without consuming. Returns the number; see SEMANTICS 7 for the rest. */
uint32_t np_rx_peek(struct np_link *link, void *buffer, uint32_t size, uint32_t *available, uint32_t *left);

/* Advertises the pending reads (all of them, in order); takes a read that is over out of the queue. */
void np_rx_post(struct np_link *link);
void np_rx_leave(struct np_link *link, struct np_op *op);

/* A reader with rx.may_defer_wake pauses: the writer is told what it was not told yet. */
void np_rx_pause(struct np_link *link);

/* Whether the peer says that it has written more than stands in the ring. */
bool np_rx_more_announced(const struct np_link *link);

/* Where an entry stands or will stand. */
static inline const uint8_t *np_rx_place(const struct np_link *link, uint64_t position)
{
    return link->rx.ring + ((position - link->rx.begin) & (link->rx.capacity - 1));
}

/* Whether the producer has done anything since `tail` and `rewinds` were loaded. Without any lock. */
static inline bool np_rx_moved_since(const struct np_link *link, uint64_t tail, uint32_t rewinds)
{
    const struct npl_direction *shared = link->rx.shared;
    return atomic_load_explicit(&shared->producer.tail, memory_order_acquire) != tail ||
           atomic_load_explicit(&shared->takebacks.rewinds, memory_order_relaxed) != rewinds;
}

/* What somebody looks at again and again, until an entry comes. */
struct np_rx_awaited {
    const struct np_link *link;
    uint64_t tail;
    uint32_t rewinds;
    bool early;
    const uint8_t *next; /* where it will begin */
};

/* Whoever looks for the tail asks for the entry's lines too, so that they come with it and not behind it: hints, which
 * cannot fail (docs/performance.md has the figures).
 *   - Of an entry of two lines with each look, before it is there. Whether the next one is so short is guessed by the
 *     last one.
 *   - Of a longer one when the tail has moved. Its writer is at work on its lines for a while before that, and would
 *     have to get back each that is taken away from it. */
#define NP_EARLY 128u   /* bytes */
#define NP_FETCHED 16u  /* lines: of so many a processor can wait at once */

static inline bool np_rx_fetches_early(const struct np_rx *rx)
{
    return rx->total + NPL_MAX_ENTRY_HEADER <= NP_EARLY;
}

static inline void np_rx_fetch(const uint8_t *place, uint64_t size)
{
    for (uint64_t line = 0; line < NP_FETCHED && line * 64 < size; line++)
        __builtin_prefetch(place + line * 64);
}

/* With rx_lock. */
static inline struct np_rx_awaited np_rx_awaited(const struct np_link *link)
{
    const struct np_rx *rx = &link->rx;
    return (struct np_rx_awaited){link, rx->tail, rx->rewinds, np_rx_fetches_early(rx), np_rx_place(link, rx->head)};
}

/* Whether the producer has done anything since. Without any lock. */
static inline bool np_rx_moved(const struct np_rx_awaited *awaited)
{
    const struct npl_direction *shared = awaited->link->rx.shared;
    if (awaited->early)
        np_rx_fetch(awaited->next, NP_EARLY);
    uint64_t tail = atomic_load_explicit(&shared->producer.tail, memory_order_acquire);
    if (tail == awaited->tail)
        return atomic_load_explicit(&shared->takebacks.rewinds, memory_order_relaxed) != awaited->rewinds;
    np_rx_fetch(awaited->next, tail - awaited->tail);
    return true;
}

#endif
