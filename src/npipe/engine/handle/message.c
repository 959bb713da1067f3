#include "handle/message.h"

#include <stdatomic.h>

#include "base/codes.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "handle/handle.h"
#include "handle/step.h"

uint32_t np_message_find(struct np_handle *handle, struct np_link *link, struct np_message *message, uint32_t *size)
{
    if (np_rx_has_back(link))
        return np_rx_head(link, &message->entry, size); /* whatever has become of the pipe since */
    if (!link->rx.active || link->rx.pulled == 0)
        np_look_before_deferred(link);
    uint32_t condition = np_link_known(link);
    uint32_t peer = atomic_load_explicit(link->peer_state, memory_order_acquire);
    if ((condition != NP_OK && condition != NP_BROKEN_PIPE) || (condition == NP_BROKEN_PIPE && peer == NPL_END_ABORTED))
        return np_read_is_owed(link, message->pended) && np_rx_head(link, &message->entry, size) == NP_OK ? NP_OK
                                                                                                          : condition;
    if (condition == NP_BROKEN_PIPE && peer == NPL_END_OPEN)
        np_rx_trim(link);
    uint32_t code = np_rx_head(link, &message->entry, size);
    if (code == NP_OK)
        message->pended = true; /* as far as it stands in the ring it is this call's from here on */
    if (code != NP_WOULD_WAIT)
        return code;
    /* The condition was looked at before the ring, so an empty ring now stays empty. */
    if (condition != NP_OK)
        return NP_BROKEN_PIPE;
    if (np_found_dead(link))
        return np_message_find(handle, link, message, size);
    if (!message->waits && atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
        return NP_NO_DATA;
    return NP_WOULD_WAIT;
}

uint32_t np_message_copy(struct np_link *link, struct np_op *op, const struct np_message *message, uint8_t *buffer,
                         uint32_t upto)
{
    uint32_t condition = np_link_known(link), code = condition;
    bool gone = code == NP_BROKEN_PIPE, ended = code != NP_OK && !gone;
    if (!ended || np_read_is_owed(link, message->pended) || message->entry & NP_ENTRY_BACK)
        code = np_rx_copy(link, op, message->entry, buffer, upto);
    if (code == NP_WOULD_WAIT && ended)
        return condition; /* the rest of it will not come */
    if (code == NP_WOULD_WAIT && gone) {
        np_rx_drop_incomplete(link);
        code = NP_RETRY; /* np_message_find says what is left */
    }
    if (code == NP_RETRY)
        op->count = 0;
    return code;
}

uint32_t np_message_take(struct np_link *link, const struct np_op *op, const struct np_message *message)
{
    return np_rx_is_head(link, message->entry) ? np_rx_consume(link, message->entry, op->count) : NP_RETRY;
}

uint32_t np_message_leave(struct np_link *link, struct np_op *op, const struct np_message *message, void *buffer)
{
    if (message->entry & NP_ENTRY_BACK || !np_rx_is_head(link, message->entry))
        return NP_OK; /* nothing of it has been taken, or it has gone */
    op->out = buffer;
    /* Without memory to keep what was copied the pipe cannot go on. */
    return np_rx_give_back(link, op) ? NP_OK : np_link_violated(link);
}
