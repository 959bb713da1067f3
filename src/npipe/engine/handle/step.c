#include "handle/step.h"

#include "base/codes.h"
#include "base/platform.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"

/* What an operation without a link gives (SEMANTICS 3.5). */
uint32_t np_code_without_link(const struct np_handle *handle)
{
    switch (atomic_load_explicit(&handle->state, memory_order_acquire)) {
    case NP_LISTENING:
        return NP_PIPE_LISTENING;
    case NP_DISCONNECTED:
        return NP_PIPE_NOT_CONNECTED;
    default:
        return NP_INVALID_HANDLE;
    }
}

bool np_found_dead(struct np_link *link)
{
    return atomic_load_explicit(&link->alert, memory_order_relaxed) == NP_ALERT_UNWATCHED &&
           (atomic_load_explicit(&link->rx.by_socket, memory_order_relaxed) <= 0 || !link->rx.first) &&
           np_link_look(link, false);
}

void np_look_before_deferred(struct np_link *link)
{
    if (np_link_quiet(link) && np_rx_settle(link) == NP_OK && link->rx.deferred)
        np_link_look(link, false);
}

uint32_t np_read_end(struct np_op *op, bool message_mode, uint32_t code)
{
    if (code == NP_OK || code == NP_WOULD_WAIT || message_mode || !np_op_has_taken(op))
        return code;
    op->done = true;
    op->code = NP_OK;
    return NP_OK;
}

static uint32_t attempt_read(struct np_handle *handle, struct np_link *link, struct np_op *op, bool message_mode,
                             bool try_only)
{
    if (np_rx_has_back(link) && !np_op_has_taken(op))
        return np_rx_read(link, op, message_mode, try_only); /* whatever has become of the pipe since */
    if (op->count == 0)
        np_look_before_deferred(link);
    uint32_t condition = np_link_known(link);
    uint32_t peer = atomic_load_explicit(link->peer_state, memory_order_acquire);
    if ((condition != NP_OK && condition != NP_BROKEN_PIPE) || (condition == NP_BROKEN_PIPE && peer == NPL_END_ABORTED))
        return np_read_is_owed(link, op->waited) && np_rx_read(link, op, message_mode, false) == NP_OK ? NP_OK
                                                                                                       : condition;
    if (condition == NP_BROKEN_PIPE && peer == NPL_END_OPEN)
        np_rx_trim(link); /* it died: what it had not finished writing goes with it */
    for (int dropped = 0;; dropped++) {
        /* Of one that is gone nothing more will come, so nothing is waited for. */
        uint32_t code = np_rx_read(link, op, message_mode, try_only && condition == NP_OK);
        if (code != NP_WOULD_WAIT)
            return code;
        /* The condition was looked at before the ring, so an empty ring now stays empty. */
        if (condition == NP_OK)
            break;
        if (np_op_has_taken(op) && !message_mode) {
            np_rx_drop_incomplete(link);
            return NP_BROKEN_PIPE; /* which the next read is told, for this one has something to deliver */
        }
        /* Only one can be incomplete, unless the peer has said that it is gone and goes on writing. */
        if (!np_rx_drop_incomplete(link) || dropped)
            return NP_BROKEN_PIPE;
        op->count = 0;
    }
    if (np_found_dead(link))
        return attempt_read(handle, link, op, message_mode, try_only);
    if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT && !link->rx.active)
        return NP_NO_DATA;
    op->waited = true;
    return NP_WOULD_WAIT;
}

uint32_t np_read_step(struct np_handle *handle, struct np_link *link, struct np_op *op, bool message_mode,
                      bool try_only)
{
    return np_read_end(op, message_mode, attempt_read(handle, link, op, message_mode, try_only));
}

/* What ended a read that was waiting on a link which is not the handle's any more. */
uint32_t np_code_of_end(const struct np_link *link)
{
    uint32_t condition = np_link_condition(link);
    /* Closed by another thread: the call that was waiting in it gets 109 (SEMANTICS 3.4). */
    return condition == NP_INVALID_HANDLE || condition == NP_OK ? NP_BROKEN_PIPE : condition;
}

bool np_message_mode_of(const struct np_handle *handle)
{
    return atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_READ_MESSAGE;
}

/* The code for a write on a link that is not quiet: a new one gets 232 where a pending one gets 109. */
uint32_t np_write_condition(struct np_link *link, bool pending)
{
    uint32_t condition = pending ? np_link_known(link) : np_link_check(link);
    if (condition == NP_BROKEN_PIPE && !pending)
        return NP_NO_DATA;
    if (condition == NP_INVALID_HANDLE && pending)
        return NP_BROKEN_PIPE;
    return condition;
}

#ifndef WITHDRAW_PATIENCE_NS /* the fuzzers have none */
/* a reader copies for microseconds; one that was stopped is given up */
#define WITHDRAW_PATIENCE_NS INT64_C(1000000000)
#endif

/* Ends a pending write. NP_OK: withdrawn; NP_NO_DATA: it was complete after all. With tx_lock held. */
uint32_t np_withdraw(struct np_handle *handle, struct np_link *link, struct np_op *op)
{
    int64_t limit = np_now() + WITHDRAW_PATIENCE_NS;
    for (;;) {
        if (!np_in_use(handle, link) || op->done)
            return NP_NO_DATA;
        uint32_t code = np_write_condition(link, true);
        if (code != NP_OK)
            return code;
        code = np_tx_withdraw(link, op);
        if (code != NP_WOULD_WAIT)
            return code;
        if (np_now() > limit)
            return np_link_violated(link);
        pthread_mutex_unlock(&handle->tx_lock);
        np_pause();
        pthread_mutex_lock(&handle->tx_lock);
    }
}

void np_move_detached(struct np_handle *handle, struct np_link *link)
{
    pthread_mutex_lock(&handle->tx_lock);
    if (np_tx_only_detached(link))
        np_tx_renew(link, NPL_ARMED_WRITE);
    pthread_mutex_unlock(&handle->tx_lock);
}
