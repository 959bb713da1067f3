/* What blocking calls (read.c, write.c) and overlapped operations (async.c) have in common. */
#ifndef NPIPE_IO_H
#define NPIPE_IO_H

#include "async.h"
#include "rx.h"

/* What an operation without a link gives (SEMANTICS 3.5). */
uint32_t np_code_without_link(const struct np_handle *handle);
/* What ended an operation on a link which is not the handle's any more. */
uint32_t np_code_of_end(const struct np_link *link);
bool np_message_mode_of(const struct np_handle *handle);
/* One attempt at a read, with rx_lock held. NP_OK: op is done; NP_WOULD_WAIT; else the operation's error. It keeps np_rx_read's
 * promise: a try that is not done, or an error, has consumed nothing. */
uint32_t np_read_step(struct np_handle *handle, struct np_link *link, struct np_op *op, bool message_mode, bool try_only);
/* How a read ends that `code` would end: what a byte-mode read has taken it delivers (NP_OK), and the next one is told. */
uint32_t np_read_end(struct np_op *op, bool message_mode, uint32_t code);
/* The code for a write on a link that is not quiet: a new one gets 232 where a pending one gets 109. */
uint32_t np_write_condition(struct np_link *link, bool pending);
/* Ends a pending write, with tx_lock held, which is let go meanwhile. NP_OK: withdrawn; NP_NO_DATA: it was complete after all. */
uint32_t np_withdraw(struct np_handle *handle, struct np_link *link, struct np_op *op);
/* Whether a transaction may begin (SEMANTICS 8.1), with rx_lock held. */
uint32_t np_transact_check(struct np_handle *handle);

/* With rx_lock held, by whoever has taken bytes out of the socket: one of them may have told of room for writes that nobody waits
 * for (np_tx_detach). */
void np_move_detached(struct np_handle *handle, struct np_link *link);

/* A signal's handler may have forked, and this be the child: it has no segment to look at. */
static inline bool np_forked(const struct np_link *link)
{
    return atomic_load_explicit(&link->alert, memory_order_relaxed) & NP_ALERT_FORKED;
}

/* Whether the handle still has the link that a call on it began with. */
static inline bool np_in_use(const struct np_handle *handle, const struct np_link *link)
{
    return handle->link == link;
}

/* A peer can keep a waiter moving for ever without giving it anything. So one that is not let sleep looks at the clock and asks for
 * signals now and then; `waited` is how the last wait ended, and the result how it counts. */
#define NP_TURNS_PER_LOOK 64
static inline uint32_t np_restless(uint32_t *turns, uint32_t waited, const struct np_wait *wait)
{
    if (waited != NP_OK || ++*turns % NP_TURNS_PER_LOOK)
        return waited;
    if (np_cancelled(wait) || (wait->interrupted && wait->interrupted(wait->context)))
        return NP_INTERRUPTED;
    return np_expired(wait) ? NP_SEM_TIMEOUT : NP_OK;
}

/* Overlapped reads that stand before this one. */
static inline void np_drive_ahead(struct np_handle *handle, struct np_link *link, const struct np_op *op)
{
    if (link->rx.first && link->rx.first != op && link->rx.first->completed)
        np_async_drive_reads(handle, link);
}

/* A read has left the queue: overlapped ones have their turn, and nothing of the ring tells them of what was put back. */
static inline void np_drive_back(struct np_handle *handle, struct np_link *link)
{
    if (np_rx_has_back(link) && np_in_use(handle, link))
        np_drive_ahead(handle, link, NULL);
}

#endif
