#include "overlapped/start.h"

#include <string.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/wait.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"
#include "overlapped/wait.h"

/* A reference that moves on to another object, or stays. */
static void refer(struct np_object **held, struct np_object *object)
{
    struct np_object *before = *held;
    if (before == object)
        return;
    if (object)
        np_object_ref(object);
    *held = object;
    np_object_unref(before);
}

/* Whether the handle has the rights for such an operation. */
static bool may(const struct np_handle *handle, enum np_async_kind kind)
{
    static const uint32_t rights[] = {[NP_ASYNC_READ] = NP_READ,
                                      [NP_ASYNC_WRITE] = NP_WRITE,
                                      [NP_ASYNC_TRANSACT] = NP_READ | NP_WRITE,
                                      [NP_ASYNC_CONNECT] = 0};
    return (handle->access & rights[kind]) == rights[kind];
}

void np_async_prepare(struct np_async *async, struct np_handle *handle, enum np_async_kind kind,
                      const struct np_telling *telling)
{
    struct np_thread *thread = np_thread_self();
    memset(&async->op, 0, sizeof async->op);
    async->kind = kind;
    if (async->handle != handle) {
        np_hold(handle);
        if (async->handle)
            np_free(async->handle);
        async->handle = handle;
    }
    if (async->thread != thread) {
        if (thread)
            np_thread_ref(thread);
        np_thread_unref(async->thread);
        async->thread = thread;
    }
    refer(&async->event, telling->apc ? NULL : telling->event);
    refer(&async->file, telling->file);
    refer(&async->port, telling->apc ? NULL : telling->port);
    async->key = telling->key;
    async->no_packet = telling->no_packet;
    async->apc = telling->apc && async->thread;
    async->block = telling->block;
    async->owner = telling->owner;
    async->count = 0;
    async->cancelling = false;
    async->by_start = false;
    atomic_store_explicit(&async->code, NP_IO_PENDING, memory_order_relaxed);
    if (!may(handle, kind))
        return; /* Windows refuses it before it looks at the event */
    if (async->event)
        np_object_settle(async->event);
    if (async->file)
        np_object_settle(async->file);
    /* SEMANTICS 10.3. Relaxed: who waits for it meanwhile sees it set or not, as with a ResetEvent of another
     * thread. */
    if (async->event)
        atomic_store_explicit(&async->event->signalled, false, memory_order_relaxed);
    if (async->file)
        atomic_store_explicit(&async->file->signalled, false, memory_order_relaxed);
}

/* The start has failed at once: nothing is told. */
static uint32_t refuse(struct np_async *async, uint32_t code)
{
    np_objects_lock();
    struct np_link *link = async->link;
    async->link = NULL;
    if (async->listed && async->kind == NP_ASYNC_WRITE)
        np_async_count_write(async, -1);
    np_async_delist(async);
    np_objects_unlock();
    if (link)
        np_link_unref(link);
    np_async_unref(async);
    return code;
}

/* The start itself has done it: it was never in a queue or a list. */
static void complete_at_once(struct np_async *async, uint32_t code, uint32_t count)
{
    np_objects_lock();
    async->by_start = !np_async_tell(async, code, count);
    if (!async->by_start)
        np_async_ref(async);
    np_tell(async);
    np_objects_unlock();
}

/* What the start of an operation that is under way returns. It may be over already, but a failure has been told then,
 * and is not to be returned as well: the caller would take it for a start that has failed, of which nothing is told. */
static uint32_t outcome(const struct np_async *async)
{
    uint32_t code = np_async_code(async);
    return code == NP_OK || code == NP_MORE_DATA ? code : NP_IO_PENDING;
}

uint32_t np_async_read(struct np_async *async, void *buffer, uint32_t size)
{
    struct np_handle *handle = async->handle;
    struct np_op *op = &async->op;
    if (!(handle->access & NP_READ))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    uint32_t code = NP_WOULD_WAIT;
    bool pended = false;
    op->out = buffer;
    op->size = size;
    async->message_mode = np_message_mode_of(handle);
    if (!link) {
        code = np_code_without_link(handle);
    } else {
        if (link->rx.first)
            np_async_drive_reads(handle, link);
        if (!link->rx.first)
            code = np_read_step(handle, link, op, async->message_mode, true);
        else if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
            code = NP_NO_DATA; /* others wait already: nothing is there */
    }
    if (code == NP_OK) {
        complete_at_once(async, op->code, op->count);
        code = op->code;
    } else if (code == NP_WOULD_WAIT) {
        /* What is there but only in part is read at once; a read that finds nothing is pending from here on. */
        op->pended = !link->rx.active;
        op->waited = true; /* also one that stands behind others */
        op->completed = np_async_completed;
        np_async_enlist(async, link);
        np_queue_append(&link->rx.first, &link->rx.last, op);
        np_rx_post(link);
        np_async_drive_reads(handle, link);
        code = outcome(async);
        pended = np_async_code(async) == NP_IO_PENDING;
    }
    np_unlock_moved(handle, &handle->rx_lock);
    if (pended)
        np_async_arm_later(handle);
    return code;
}

#define REST_PATIENCE_NS INT64_C(50000000)

bool np_async_lacks_rest(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = async->link;
    bool lacks = link && handle->link == link && link->rx.first == &async->op && np_link_quiet(link) &&
                 (link->rx.active || np_rx_more_announced(link));
    pthread_mutex_unlock(&handle->rx_lock);
    return lacks;
}

uint32_t np_async_await_rest(struct np_async *async)
{
    const struct np_wait wait = {.deadline = np_now() + REST_PATIENCE_NS};
    struct np_handle *handle = async->handle;
    while (np_async_lacks_rest(async) && !np_expired(&wait)) {
        pthread_mutex_lock(&handle->rx_lock);
        struct np_link *link = async->link;
        uint32_t seen = 0;
        bool sleep = false;
        if (link) {
            np_link_ref(link);
            seen = atomic_load_explicit(&link->sleep->seq, memory_order_acquire);
            atomic_fetch_or_explicit(&link->sleep->flags, NPL_SLEEP_READ, memory_order_relaxed);
            /* Full fence, with its twin in the writer's publish: either it sees our flag, or we see its tail. */
            atomic_thread_fence(memory_order_seq_cst);
            sleep = !np_async_has_moved(async);
        }
        pthread_mutex_unlock(&handle->rx_lock);
        if (sleep)
            np_sleep(&link->sleep->seq, seen, NPL_SLEEP_READ, &wait);
        if (link)
            np_link_unref(link);
        np_async_drive(handle);
    }
    return outcome(async);
}

uint32_t np_async_write(struct np_async *async, const void *data, uint32_t size)
{
    struct np_handle *handle = async->handle;
    struct np_op *op = &async->op;
    if (!(handle->access & NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    uint32_t code = link ? np_write_condition(link, false) : np_code_without_link(handle), written = size;
    bool pended = false, done = false;
    op->in = data;
    op->size = size;
    if (code == NP_OK && !(size == 0 && link->type != NP_TYPE_MESSAGE)) {
        if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT && size)
            code = np_tx_nowait(link, np_source_of(data), size, &written);
        else
            code = np_tx_write(link, np_source_of(data), size);
        if (code == NP_WOULD_WAIT && atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
            code = NP_NO_SYSTEM_RESOURCES; /* as in write_with */
    }
    if (code == NP_WOULD_WAIT) {
        op->completed = np_async_completed;
        np_async_enlist(async, link);
        code = np_tx_submit(link, op);
        if (code == NP_OK || np_async_code(async) != NP_IO_PENDING) {
            np_async_note_writes(link);
            code = outcome(async);
            pended = np_async_code(async) == NP_IO_PENDING;
        } else {
            np_tx_forget(link, op);
            code = refuse(async, code);
        }
    } else {
        done = code == NP_OK;
    }
    bool at_once = pended && !np_tx_all_put(link);
    bool detached = link && np_tx_only_detached(link);
    np_unlock_moved(handle, &handle->tx_lock);
    if (done)
        complete_at_once(async, NP_OK, written); /* the reads that it has satisfied come first */
    if (pended || detached)
        np_async_arm_later(handle);
    if (at_once)
        np_alarm(0); /* the reader is to find all of it, and needs us to bring the rest */
    return code;
}

/* A request that outgrows the quota belongs to the engine from then on: the transaction may be over before it is read.
 * A peer who answers and does not read is not sent any more than is kept for it. */
static uint32_t send_request(struct np_link *link, const void *data, uint32_t size)
{
    uint32_t code = np_tx_try(link, np_source_of(data), size);
    if (code != NP_WOULD_WAIT)
        return code;
    code = np_tx_pump(link); /* what it has read is not kept any more */
    if (code != NP_OK)
        return code;
    return np_tx_may_detach(link, size) ? np_tx_detach(link, np_source_of(data), size) : NP_NO_SYSTEM_RESOURCES;
}

uint32_t np_async_transact(struct np_async *async, const void *data, uint32_t size, void *reply, uint32_t reply_size)
{
    struct np_handle *handle = async->handle;
    struct np_op *op = &async->op;
    if ((handle->access & (NP_READ | NP_WRITE)) != (NP_READ | NP_WRITE))
        return NP_ACCESS_DENIED;
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = handle->link;
    if (link && link->rx.first)
        np_async_drive_reads(handle, link);
    uint32_t code = np_transact_check(handle);
    if (code == NP_OK) {
        code = np_write_condition(link, false);
        if (code == NP_NO_DATA)
            code = NP_BAD_PIPE;
    }
    if (code == NP_OK) {
        /* The read first: a peer that answers at once finds it. */
        op->out = reply;
        op->size = reply_size;
        op->pended = op->waited = true;
        op->completed = np_async_completed;
        async->message_mode = true;
        np_async_enlist(async, link);
        np_queue_append(&link->rx.first, &link->rx.last, op);
        np_rx_post(link);
        np_async_note_reads(link);
        code = send_request(link, data, size);
        if (code != NP_OK) {
            np_rx_leave(link, op);
            code = refuse(async, code);
        } else {
            code = NP_IO_PENDING;
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    np_unlock_moved(handle, &handle->rx_lock);
    if (code == NP_IO_PENDING)
        np_async_arm_later(handle);
    return code;
}

uint32_t np_transact_check(struct np_handle *handle)
{
    struct np_link *link = handle->link;
    if (!link)
        return handle->server && np_code_without_link(handle) != NP_INVALID_HANDLE ? NP_BAD_PIPE
                                                                                   : np_code_without_link(handle);
    uint32_t code = np_link_check(link);
    if (code == NP_BROKEN_PIPE)
        return NP_BAD_PIPE;
    if (code != NP_OK)
        return code;
    if (!np_message_mode_of(handle) || link->direction != NP_ACCESS_DUPLEX)
        return NP_BAD_PIPE;
    np_drive_ahead(handle, link, NULL);
    code = np_rx_settle(link);
    if (code == NP_OK || np_rx_has_back(link) || link->rx.first)
        return NP_PIPE_BUSY; /* unread data, be it an empty message, or a read that would get the answer */
    return code == NP_WOULD_WAIT ? NP_OK : code;
}
