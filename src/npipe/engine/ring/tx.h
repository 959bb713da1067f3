/* A ring's producing side. All functions are called with the handle's tx_lock. */
#ifndef NPIPE_RING_TX_H
#define NPIPE_RING_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/op.h"

struct np_link;

/* Writes `size` bytes as one entry if that completes at once: NP_OK, NP_WOULD_WAIT or NP_INVALID_DATA. */
uint32_t np_tx_try(struct np_link *link, struct np_source source, uint32_t size);
/* The same, and what the ring has no place for though it waits for nothing, an empty message and what is behind it, is
 * detached (NP_NOT_ENOUGH_MEMORY): for those who let the native thread move it on. */
uint32_t np_tx_write(struct np_link *link, struct np_source source, uint32_t size);
/* PIPE_NOWAIT: how much of the write can be done without waiting (SEMANTICS 6.2) is done. */
uint32_t np_tx_nowait(struct np_link *link, struct np_source source, uint32_t size, uint32_t *written);

/* Queues a copy of the data as one entry; it is done as far as its writer is concerned. NP_OK, NP_NOT_ENOUGH_MEMORY or
 * NP_INVALID_DATA. Whether all that is pending is of that kind: then nobody waits who would move it on. */
uint32_t np_tx_detach(struct np_link *link, struct np_source source, uint32_t size);
/* Whether another copy may be kept: one there may always be, more up to a bound, whatever the reader says or does. */
bool np_tx_may_detach(const struct np_link *link, uint32_t size);
bool np_tx_only_detached(const struct np_link *link);
/* op->completed of such a write. */
void np_detached_done(struct np_op *op);

/* Queues op->size bytes of op->in or op->parts as one entry, visible at once; op->done once the quota has room for
 * it. */
uint32_t np_tx_submit(struct np_link *link, struct np_op *op);
/* Moves pending writes on with what the consumer has announced. NP_OK or NP_INVALID_DATA. */
uint32_t np_tx_pump(struct np_link *link);
/* Whether all pending writes stand in the ring, where they stay readable whatever becomes of this end. */
bool np_tx_all_put(const struct np_link *link);
/* The same, and of none of them the reader is in the middle. */
bool np_tx_may_close(const struct np_link *link);
/* Whether something is there for np_tx_pump: for a wait. */
bool np_tx_moved(const struct np_link *link);
/* The same for a thread that waits without the lock, since it had it: others refresh meanwhile what this end knows. */
struct np_tx_counts {
    uint64_t head, consumed, taken;
};
struct np_tx_counts np_tx_counts(const struct np_link *link);
bool np_tx_moved_since(const struct np_link *link, const struct np_tx_counts *counts);

/* Withdraws a pending write. NP_OK: nothing of its unread rest will be read. NP_WOULD_WAIT: the consumer is copying
 * from it just now, try again. NP_NO_DATA: too late, it is complete. */
uint32_t np_tx_withdraw(struct np_link *link, struct np_op *op);
/* The link has ended: takes a pending write out of the queue as it is. */
void np_tx_forget(struct np_link *link, struct np_op *op);

/* ---- Reservations: entries that are written in place, and published at the end or never. Until then they count as
 * pending writes: what comes later stands behind them. The peer is not told. */

/* Whether an entry of `size` bytes can be one: a plain one, within the quota, and not empty. */
bool np_tx_may_reserve(const struct np_link *link, uint32_t size);
/* Reserves op->size bytes: at once (NP_OK), or NP_WOULD_WAIT, and then nothing is reserved; NP_INVALID_DATA. */
uint32_t np_tx_reserve_now(struct np_link *link, struct np_op *op);
/* Queues it; op->started: from then on it has its place. */
uint32_t np_tx_reserve(struct np_link *link, struct np_op *op);
/* Where its first byte stands, counted from the ring's beginning. */
uint64_t np_tx_reserved(const struct np_link *link, const struct np_op *op);
/* Publishes the first `size` bytes of it as an entry. np_tx_withdraw takes it back. NP_OK or NP_INVALID_DATA: what
 * comes behind it could not be moved on. */
uint32_t np_tx_commit(struct np_link *link, struct np_op *op, uint32_t size);

/* A flush is over when all live entries up to its number are read. */
void np_tx_begin_flush(struct np_link *link, struct np_op *op);
bool np_tx_flushed(struct np_link *link, const struct np_op *op);
void np_tx_end_flush(struct np_link *link, struct np_op *op);

/* Moves pending writes on, and stores what the consumer has to reach before it wakes this side for the rest: when it
 * returns, either nothing is pending, or the link has ended, or the consumer's next commit that matters wakes whoever
 * has set a flag. `flags`: NPL_ARMED_WRITE, to be set for the caller, or 0. However the consumer moves, it takes a
 * bounded time. NP_OK or NP_INVALID_DATA. */
uint32_t np_tx_renew(struct np_link *link, uint32_t flags);

/* Gives the ring's memory back, but for its first pages, if nothing stands beyond these; of a link that is idle the
 * ring may begin anew for that. True: there is nothing to give back any more. */
bool np_tx_give_back(struct np_link *link, bool is_idle);

/* Stores what the consumer has to reach before it wakes this side. */
void np_tx_set_thresholds(struct np_link *link);

#endif
