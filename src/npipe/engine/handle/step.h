/* What reads and writes are made of, in steps that never wait: blocking, overlapped and polled calls share them. */
#ifndef NPIPE_HANDLE_STEP_H
#define NPIPE_HANDLE_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>

#include "base/codes.h"
#include "base/wait.h"
#include "ring/link.h"
#include "handle/handle.h"

struct np_op;

/* What an operation without a link gives (SEMANTICS 3.5). */
uint32_t np_code_without_link(const struct np_handle *handle);
/* What ended an operation on a link which is not the handle's any more. */
uint32_t np_code_of_end(const struct np_link *link);
bool np_message_mode_of(const struct np_handle *handle);
/* One attempt at a read, with rx_lock held. NP_OK: op is done; NP_WOULD_WAIT; else the operation's error. It keeps
 * np_rx_read's promise: a try that is not done, or an error, has consumed nothing. */
uint32_t np_read_step(struct np_handle *handle, struct np_link *link, struct np_op *op, bool message_mode,
                      bool try_only);
/* How a read ends that `code` would end: what a byte-mode read has taken it delivers (NP_OK), and the next one is
 * told. */
uint32_t np_read_end(struct np_op *op, bool message_mode, uint32_t code);
/* The code for a write on a link that is not quiet: a new one gets 232 where a pending one gets 109. */
uint32_t np_write_condition(struct np_link *link, bool pending);
/* Ends a pending write, with tx_lock held, which is let go meanwhile. NP_OK: withdrawn; NP_NO_DATA: it was complete
 * after all. */
uint32_t np_withdraw(struct np_handle *handle, struct np_link *link, struct np_op *op);

/* With rx_lock held, by whoever has taken bytes out of the socket: one of them may have told of room for writes that
 * nobody waits for (np_tx_detach). */
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

/* What came while a read was pending was its at once: whatever has ended the link since, here or there, takes nothing
 * of it back (SEMANTICS 0.3). But not on a link whose peer broke the rules, and in a child the read is the
 * parent's. Relaxed: both bits are set by this process, and one that is set at this moment might as well be set in the
 * next. */
static inline bool np_read_is_owed(const struct np_link *link, bool waited)
{
    return waited && !(atomic_load_explicit(&link->alert, memory_order_relaxed) & (NP_ALERT_BROKEN | NP_ALERT_FORKED));
}

/* Whether a signal's handler has raised, the call is cancelled, or its time is over. */
static inline uint32_t np_overdue(const struct np_wait *wait)
{
    if (np_cancelled(wait) || np_is_interrupted(wait))
        return NP_INTERRUPTED;
    return np_expired(wait) ? NP_SEM_TIMEOUT : NP_OK;
}

/* A peer can keep a waiter moving for ever without giving it anything. So one that is not let sleep looks at the clock
 * from its second turn on, and asks for signals now and then; `waited` is how the last wait ended, and the result how
 * it counts. */
#define NP_TURNS_PER_LOOK 64
static inline uint32_t np_restless(uint32_t *turns, uint32_t waited, const struct np_wait *wait)
{
    if (waited != NP_OK || ++*turns == 1)
        return waited;
    if (*turns % NP_TURNS_PER_LOOK == 0)
        return np_overdue(wait);
    return np_expired(wait) ? NP_SEM_TIMEOUT : NP_OK;
}

/* Nothing is there on a link that nobody watches: whether that is because the peer is dead. A sleep on the socket finds
 * it out by itself. */
bool np_found_dead(struct np_link *link);

/* A write that was not complete vanishes with its process (SEMANTICS 10.4), so before such an entry is begun one has to
 * know. */
void np_look_before_deferred(struct np_link *link);

#endif
