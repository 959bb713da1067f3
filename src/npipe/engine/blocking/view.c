#include "blocking/view.h"

#include <string.h>

#include "base/codes.h"
#include "base/wait.h"
#include "blocking/write.h"
#include "handle/handle.h"
#include "handle/message.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "ring/back.h"
#include "ring/link.h"
#include "ring/mirror.h"
#include "ring/rx.h"
#include "ring/tx.h"

/* ---- Writing */

/* With tx_lock. Whether it can be in place at all. */
static uint32_t check_reserve(struct np_handle *handle, uint32_t size)
{
    struct np_link *link = handle->link;
    if (!link)
        return np_code_without_link(handle);
    uint32_t code = np_write_condition(link, false);
    if (code != NP_OK)
        return code;
    if (link->type != NP_TYPE_MESSAGE || !np_tx_may_reserve(link, size))
        return NP_MORE_DATA;
    return np_mirror_can(link, NP_MIRROR_TX) ? NP_OK : NP_MORE_DATA;
}

/* It is over, without a place. With tx_lock. */
static void give_up(struct np_reserve *reserve, struct np_link *link)
{
    if (reserve->op.queued)
        np_tx_forget(link, &reserve->op);
    reserve->link = NULL;
    np_link_unref(link);
}

/* It has its place. NP_OK; NP_MORE_DATA: not in a mirror, and it is given up. With tx_lock.
 *
 * The mirror is taken here and not before the wait: the one of that time may have become somebody's own copy
 * (np_mirror_end), and what is written there never comes into the ring. */
static uint32_t found_place(struct np_reserve *reserve, struct np_link *link)
{
    reserve->mirror = np_mirror_get(link, NP_MIRROR_TX);
    if (!reserve->mirror) {
        np_tx_withdraw(link, &reserve->op);
        give_up(reserve, link);
        return NP_MORE_DATA;
    }
    reserve->data = np_mirror_lend(reserve->mirror, np_tx_reserved(link, &reserve->op), reserve->op.size);
    return NP_OK;
}

static uint32_t await_place(struct np_handle *handle, struct np_reserve *reserve, const struct np_wait *wait)
{
    struct np_link *link = reserve->link;
    struct np_op *op = &reserve->op;
    struct np_awaiting awaiting = NP_AWAITING;
    uint32_t code = np_tx_reserve(link, op), waited = NP_OK;
    for (;;) {
        bool in_use = np_in_use(handle, link);
        uint32_t condition = in_use ? np_write_condition(link, true) : np_code_of_end(link);
        if (in_use && code == NP_OK && !op->started)
            code = np_tx_pump(link);
        if (code == NP_OK)
            code = condition;
        if (code != NP_OK || waited != NP_OK || op->started)
            break;
        waited = np_await_room(handle, link, &awaiting, wait);
    }
    if (waited == NP_INTERRUPTED || (code == NP_OK && !op->started)) {
        if (np_in_use(handle, link) && !np_forked(link))
            np_withdraw(handle, link, op);
        code = waited;
    }
    return code;
}

uint32_t np_reserve_place(struct np_handle *handle, struct np_reserve *reserve, uint32_t size,
                          const struct np_wait *wait)
{
    memset(reserve, 0, sizeof *reserve);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    reserve->op.size = size;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = check_reserve(handle, size);
    struct np_link *link = handle->link;
    if (code == NP_OK) {
        code = np_tx_reserve_now(link, &reserve->op);
        bool nowait = atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT;
        if (code == NP_WOULD_WAIT && nowait)
            code = NP_SEM_TIMEOUT;
        if (code == NP_OK || (code == NP_WOULD_WAIT && wait->deadline != NP_TRY)) {
            reserve->link = link;
            np_link_ref(link);
        }
        if (code == NP_WOULD_WAIT && reserve->link) {
            code = await_place(handle, reserve, wait);
            if (code != NP_OK)
                give_up(reserve, link);
        }
        if (code == NP_OK)
            code = found_place(reserve, link);
    }
    np_unlock_moved(handle, &handle->tx_lock);
    return code;
}

uint32_t np_reserve_begin(struct np_handle *handle, struct np_reserve *reserve, uint32_t size)
{
    memset(reserve, 0, sizeof *reserve);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    reserve->op.size = size;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = check_reserve(handle, size);
    if (code == NP_OK) {
        struct np_link *link = handle->link;
        reserve->link = link;
        np_link_ref(link);
        code = np_tx_reserve(link, &reserve->op);
        if (code != NP_OK)
            give_up(reserve, link);
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return code == NP_OK ? np_reserve_step(handle, reserve) : code;
}

uint32_t np_reserve_step(struct np_handle *handle, struct np_reserve *reserve)
{
    struct np_link *link = reserve->link;
    if (reserve->data)
        return NP_OK;
    pthread_mutex_lock(&handle->tx_lock);
    bool in_use = np_in_use(handle, link);
    uint32_t code = in_use ? np_write_condition(link, true) : np_code_of_end(link);
    if (code == NP_OK && !reserve->op.started)
        code = np_tx_renew(link, NPL_ARMED_WRITE);
    if (code != NP_OK)
        give_up(reserve, link);
    else
        code = reserve->op.started ? found_place(reserve, link) : NP_WOULD_WAIT;
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

bool np_reserve_ready(const struct np_reserve *reserve)
{
    return !reserve->link || reserve->op.started || !np_link_quiet(reserve->link);
}

uint32_t np_reserve_end(struct np_handle *handle, struct np_reserve *reserve, uint32_t size, bool commit, bool exported)
{
    struct np_link *link = reserve->link;
    if (link && np_forked(link)) { /* the parent's, which ends it there */
        np_queue_remove(&link->tx.first, &link->tx.last, &reserve->op);
        reserve->link = link = NULL;
    }
    if (!link)
        return NP_OK;
    pthread_mutex_lock(&handle->tx_lock);
    bool in_use = np_in_use(handle, link);
    uint32_t code = in_use         ? np_write_condition(link, false)
                    : handle->link ? np_code_of_end(link) /* of the client before */
                                   : np_code_without_link(handle);
    /* Before the bytes are the peer's, or another write's: what somebody still writes there is not. */
    if (reserve->data && !np_mirror_end(reserve->mirror, link, NP_MIRROR_TX, exported))
        code = np_link_violated(link); /* no memory to keep them apart: the pipe cannot go on */
    if (commit && code == NP_OK)
        (void)np_tx_commit(link, &reserve->op, size); /* it is sent, whatever comes behind it */
    else if (in_use)
        np_tx_withdraw(link, &reserve->op);
    if (reserve->op.queued)
        np_tx_forget(link, &reserve->op);
    reserve->link = NULL;
    np_unlock_moved(handle, &handle->tx_lock);
    np_link_unref(link);
    return commit ? code : NP_OK;
}

void np_reserve_let_go(struct np_reserve *reserve)
{
    struct np_mirror *mirror = reserve->mirror;
    reserve->mirror = NULL;
    reserve->data = NULL;
    if (mirror)
        np_mirror_unref(mirror);
}

/* ---- Reading */

/* The head entry, which is settled, if it is plain and nothing of it stands elsewhere. With rx_lock. */
static bool place_view(struct np_link *link, struct np_view *view)
{
    struct np_rx *rx = &link->rx;
    if (!rx->active || rx->deferred || rx->stash_length || np_rx_has_back(link))
        return false;
    view->mirror = np_mirror_get(link, NP_MIRROR_RX);
    if (!view->mirror)
        return false;
    view->size = np_rx_rest(rx);
    view->data = np_mirror_lend(view->mirror, rx->head - rx->begin, view->size);
    return true;
}

uint32_t np_view_now(struct np_handle *handle, struct np_view *view, uint32_t most)
{
    memset(view, 0, sizeof *view);
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_WOULD_WAIT;
    if (link && np_link_quiet(link) && !link->rx.first) {
        struct np_rx *rx = &link->rx;
        code = np_rx_settle(link);
        if (code == NP_OK && !rx->deferred && !rx->stash_length && !np_rx_has_back(link) && np_rx_rest(rx) > most) {
            code = NP_MORE_DATA;
            view->size = np_rx_rest(rx);
        } else if (code == NP_OK && !place_view(link, view)) {
            code = NP_WOULD_WAIT;
        }
        if (code == NP_OK) {
            view->recv.op.size = UINT32_MAX;
            view->recv.op.pended = true;
            view->recv.pended = true;
            view->recv.message.pended = true;
            view->recv.message.entry = rx->entry;
            view->recv.link = link;
            np_link_ref(link);
            np_queue_append(&rx->first, &rx->last, &view->recv.op);
        }
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}

bool np_view_in_place(struct np_handle *handle, struct np_view *view, bool wanted)
{
    struct np_link *link = view->recv.link;
    bool in_place = false;
    view->mirror = NULL;
    view->data = NULL;
    view->taken = false;
    pthread_mutex_lock(&handle->rx_lock);
    bool back = (view->recv.message.entry & NP_ENTRY_BACK) != 0;
    view->rest = back ? np_rx_has_back(link) && np_back_begun(&link->rx) : link->rx.active && link->rx.delivered > 0;
    if (wanted && !back && np_rx_is_head(link, view->recv.message.entry))
        in_place = place_view(link, view);
    pthread_mutex_unlock(&handle->rx_lock);
    return in_place;
}

uint32_t np_view_take(struct np_handle *handle, struct np_view *view)
{
    struct np_recv *recv = &view->recv;
    struct np_link *link = recv->link;
    pthread_mutex_lock(&handle->rx_lock);
    bool in_use = np_in_use(handle, link);
    uint32_t code = NP_RETRY;
    if (in_use || np_read_is_owed(link, recv->pended))
        code = np_message_take(link, &recv->op, &recv->message);
    if (code != NP_OK && !in_use)
        code = np_code_of_end(link);
    if (code == NP_OK) {
        view->taken = true;
        recv->op.count = 0;
    }
    np_unlock_moved(handle, &handle->rx_lock);
    return code;
}

uint32_t np_view_end(struct np_handle *handle, struct np_view *view, const void *copy, bool consume, bool exported)
{
    struct np_recv *recv = &view->recv;
    struct np_link *link = recv->link;
    uint32_t code = NP_OK;
    if (link && np_forked(link)) { /* as above */
        np_queue_remove(&link->rx.first, &link->rx.last, &recv->op);
        recv->link = link = NULL;
    }
    if (!link)
        return NP_OK;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_rx *rx = &link->rx;
    /* Before the bytes are the peer's again: what somebody still looks at is a copy. */
    if (view->mirror && !np_mirror_end(view->mirror, link, NP_MIRROR_RX, exported))
        code = np_link_violated(link); /* no memory for that: the pipe cannot go on */
    else if (atomic_load_explicit(&link->alert, memory_order_acquire) & NP_ALERT_BROKEN)
        code = NP_INVALID_DATA;
    else if (view->taken && !consume && !(view->rest ? np_back_put_rest : np_back_put)(rx, copy, view->size))
        code = np_link_violated(link); /* no memory to keep it: the pipe cannot go on */
    else if (view->mirror && consume && np_rx_is_head(link, recv->message.entry)) {
        np_rx_pass(link, view->size);
        code = np_rx_consume(link, recv->message.entry, view->size);
    }
    np_rx_leave(link, &recv->op);
    np_drive_back(handle, link);
    recv->link = NULL;
    np_unlock_moved(handle, &handle->rx_lock);
    np_link_unref(link);
    return code;
}

void np_view_let_go(struct np_view *view)
{
    struct np_mirror *mirror = view->mirror;
    view->mirror = NULL;
    view->data = NULL;
    if (mirror)
        np_mirror_unref(mirror);
}
