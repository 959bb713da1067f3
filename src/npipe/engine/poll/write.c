#include "poll/write.h"

#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "overlapped/start.h"
#include "poll/read.h"

static uint32_t write_now(struct np_handle *handle, struct np_source source, uint32_t size, uint32_t *count)
{
    *count = 0;
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_write_condition(link, false) : np_code_without_link(handle);
    if (code == NP_OK && (size || link->type == NP_TYPE_MESSAGE)) { /* SEMANTICS 5.2 */
        if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT && size)
            code = np_tx_nowait(link, source, size, count);
        else if ((code = np_tx_try(link, source, size)) == NP_OK)
            *count = size;
    }
    np_unlock_moved(handle, &handle->tx_lock);
    return code;
}

uint32_t np_poll_write_now(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count)
{
    return write_now(handle, np_source_of(data), size, count);
}

uint32_t np_poll_write_parts_now(struct np_handle *handle, const struct iovec *parts, uint32_t size, uint32_t *count)
{
    return write_now(handle, (struct np_source){.parts = parts}, size, count);
}

uint32_t np_poll_write_begin(struct np_handle *handle, struct np_poll_write *write, const void *data, uint32_t size)
{
    memset(write, 0, sizeof *write);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_write_condition(link, false) : np_code_without_link(handle);
    if (code == NP_OK && (size || link->type == NP_TYPE_MESSAGE)) /* SEMANTICS 5.2 */
        code = np_tx_try(link, np_source_of(data), size);
    if (code == NP_WOULD_WAIT) {
        write->op.in = data;
        write->op.size = size;
        code = np_tx_submit(link, &write->op);
        if (code == NP_OK && !write->op.done)
            np_poll_pump(link);
        if (code == NP_OK && !write->op.done) {
            write->link = link;
            np_link_ref(link);
            code = NP_WOULD_WAIT;
        } else if (write->op.queued) {
            np_tx_forget(link, &write->op);
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

/* With tx_lock held. */
static void end_write(struct np_link *link, struct np_poll_write *write, uint32_t code)
{
    if (write->op.queued)
        np_tx_forget(link, &write->op);
    write->op.code = code; /* for who asks later */
    write->link = NULL;
}

uint32_t np_poll_write_step(struct np_handle *handle, struct np_poll_write *write)
{
    struct np_link *link = write->link;
    struct np_op *op = &write->op;
    if (!link)
        return op->code;
    pthread_mutex_lock(&handle->tx_lock);
    /* The condition before the ring: what the peer had read before it went is written. */
    uint32_t code = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
    if (!op->done && np_in_use(handle, link))
        np_poll_pump(link);
    if (op->done)
        code = op->code;
    else if (code == NP_OK)
        code = NP_WOULD_WAIT;
    if (code != NP_WOULD_WAIT)
        end_write(link, write, code);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

bool np_poll_write_ready(const struct np_poll_write *write)
{
    return !write->link || write->op.done || !np_link_quiet(write->link);
}

#ifndef WITHDRAW_PATIENCE_NS /* the fuzzers have none */
/* A reader copies for microseconds, if nothing takes its processor away; an event loop does not wait for one that was
 * stopped. */
#define WITHDRAW_PATIENCE_NS INT64_C(50000000)
#endif

static uint32_t withdraw(struct np_handle *handle, struct np_link *link, struct np_op *op)
{
    int64_t limit = np_now() + WITHDRAW_PATIENCE_NS;
    for (;;) {
        if (!np_in_use(handle, link))
            return op->done ? NP_NO_DATA : np_code_of_end(link);
        uint32_t condition = np_write_condition(link, true);
        uint32_t code = np_tx_pump(link);
        if (op->done)
            return NP_NO_DATA;
        if (condition != NP_OK || code != NP_OK)
            return condition != NP_OK ? condition : code;
        /* What the peer has taken cannot be taken back: all or nothing is then all. */
        if (op->size && link->tx.consumed > op->end - op->size)
            return NP_WOULD_WAIT;
        uint64_t before = link->tx.announced;
        code = np_tx_withdraw(link, op);
        if (code == NP_OK || code == NP_INVALID_DATA) /* nobody else announces anything while the lock is held */
            return code == NP_OK && before - link->tx.announced < op->size ? NP_MORE_DATA : code;
        if (code != NP_WOULD_WAIT)
            return code;
        if (np_now() > limit)
            return NP_WOULD_WAIT;
        np_pause();
    }
}

uint32_t np_poll_write_withdraw(struct np_handle *handle, struct np_poll_write *write)
{
    struct np_link *link = write->link;
    if (!link)
        return write->op.code == NP_OK ? NP_NO_DATA : write->op.code;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = withdraw(handle, link, &write->op);
    if (np_in_use(handle, link))
        np_poll_pump(link); /* also the thresholds have changed */
    if (code == NP_WOULD_WAIT && write->op.done)
        code = NP_NO_DATA;
    if (code != NP_WOULD_WAIT)
        end_write(link, write, code == NP_NO_DATA ? NP_OK : code == NP_OK ? NP_OPERATION_ABORTED : code);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

uint32_t np_poll_write_leave(struct np_handle *handle, struct np_poll_write *write, bool discard)
{
    struct np_link *link = write->link;
    if (!link)
        return write->op.code;
    pthread_mutex_lock(&handle->tx_lock);
    const struct np_op *op = &write->op;
    bool stays = !discard && op->started && op->count == op->size;
    uint32_t code = op->done ? op->code : stays ? NP_OK : NP_BROKEN_PIPE;
    end_write(link, write, code);
    pthread_mutex_unlock(&handle->tx_lock);
    np_link_unref(link);
    return code;
}

bool np_poll_all_put(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    bool all = true;
    if (link && !np_tx_all_put(link)) {
        np_poll_pump(link);
        all = np_tx_all_put(link) || !np_link_quiet(link);
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return all;
}

static void end_flush(struct np_link *link, struct np_poll_write *flush)
{
    np_tx_end_flush(link, &flush->op);
    flush->link = NULL;
}

uint32_t np_poll_flush_begin(struct np_handle *handle, struct np_poll_write *flush)
{
    memset(flush, 0, sizeof *flush);
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_link_check(link) : np_code_without_link(handle);
    if (!link && code != NP_INVALID_HANDLE && handle->server)
        code = NP_OK; /* a server without a client has nothing unread (SEMANTICS 3.5) */
    else if (code == NP_BROKEN_PIPE)
        code = NP_OK; /* nobody is there to read: nothing is unread */
    else if (link && code == NP_OK) {
        code = np_tx_pump(link);
        np_tx_begin_flush(link, &flush->op);
        if (code == NP_OK && !np_tx_flushed(link, &flush->op)) {
            flush->link = link;
            np_link_ref(link);
            np_poll_pump(link);
            code = NP_WOULD_WAIT;
        } else {
            np_tx_end_flush(link, &flush->op);
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

uint32_t np_poll_flush_step(struct np_handle *handle, struct np_poll_write *flush)
{
    struct np_link *link = flush->link;
    if (!link)
        return NP_OK;
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = np_in_use(handle, link) ? np_write_condition(link, true) : np_code_of_end(link);
    if (np_in_use(handle, link))
        np_poll_pump(link);
    if (np_tx_flushed(link, &flush->op))
        code = NP_OK;
    else if (code == NP_OK)
        code = NP_WOULD_WAIT;
    if (code != NP_WOULD_WAIT)
        end_flush(link, flush);
    pthread_mutex_unlock(&handle->tx_lock);
    if (code != NP_WOULD_WAIT)
        np_link_unref(link);
    return code;
}

bool np_poll_flush_ready(struct np_handle *handle, const struct np_poll_write *flush)
{
    if (!flush->link || !np_link_quiet(flush->link))
        return true;
    pthread_mutex_lock(&handle->tx_lock);
    bool ready = !np_in_use(handle, flush->link) || np_tx_flushed(flush->link, &flush->op);
    pthread_mutex_unlock(&handle->tx_lock);
    return ready;
}

void np_poll_flush_leave(struct np_handle *handle, struct np_poll_write *flush)
{
    struct np_link *link = flush->link;
    if (!link)
        return;
    pthread_mutex_lock(&handle->tx_lock);
    end_flush(link, flush);
    pthread_mutex_unlock(&handle->tx_lock);
    np_link_unref(link);
}

uint32_t np_poll_transact_check(struct np_handle *handle)
{
    if ((handle->access & (NP_READ | NP_WRITE)) != (NP_READ | NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    uint32_t code = np_transact_check(handle);
    pthread_mutex_unlock(&handle->rx_lock);
    return code;
}
