#include "async.h"

#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "registry.h"
#include "rx.h"
#include "tx.h"

/* ---- Operations and their lists */

struct np_async *np_async_new(void)
{
    struct np_async *async = calloc(1, sizeof *async);
    if (async)
        atomic_init(&async->refs, 1);
    return async;
}

void np_async_ref(struct np_async *async)
{
    atomic_fetch_add_explicit(&async->refs, 1, memory_order_relaxed);
}

void np_async_unref(struct np_async *async)
{
    if (!async || atomic_fetch_sub_explicit(&async->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (async->handle)
        np_free(async->handle);
    np_thread_unref(async->thread);
    np_object_unref(async->event);
    np_object_unref(async->file);
    np_object_unref(async->port);
    free(async);
}

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
    static const uint32_t rights[] = {
        [NP_ASYNC_READ] = NP_READ, [NP_ASYNC_WRITE] = NP_WRITE, [NP_ASYNC_TRANSACT] = NP_READ | NP_WRITE, [NP_ASYNC_CONNECT] = 0};
    return (handle->access & rights[kind]) == rights[kind];
}

void np_async_prepare(struct np_async *async, struct np_handle *handle, enum np_async_kind kind, const struct np_telling *telling)
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
    /* SEMANTICS 10.3. Relaxed: who waits for it meanwhile sees it set or not, as with a ResetEvent of another thread. */
    if (async->event)
        atomic_store_explicit(&async->event->signalled, false, memory_order_relaxed);
    if (async->file)
        atomic_store_explicit(&async->file->signalled, false, memory_order_relaxed);
}

bool np_async_reusable(const struct np_async *async)
{
    /* Acquire: what others did with it comes before what its owner does with it now. */
    return np_async_code(async) != NP_IO_PENDING && atomic_load_explicit(&async->refs, memory_order_acquire) == 1;
}

#define LIST(head, async, list)                        \
    do {                                               \
        (async)->list.previous = NULL;                 \
        (async)->list.next = (head);                   \
        if (head)                                      \
            (head)->list.previous = (async);           \
        (head) = (async);                              \
    } while (0)

#define UNLIST(head, async, list)                                  \
    do {                                                           \
        if ((async)->list.previous)                                \
            (async)->list.previous->list.next = (async)->list.next;\
        else                                                       \
            (head) = (async)->list.next;                           \
        if ((async)->list.next)                                    \
            (async)->list.next->list.previous = (async)->list.previous; \
    } while (0)

static struct np_object *signalled_by(struct np_async *async)
{
    return async->event ? async->event : async->apc ? NULL : async->file;
}

/* With the objects' lock. */
static void count_pending(struct np_object *object, uint32_t change)
{
    uint32_t pending = atomic_load_explicit(&object->pending, memory_order_relaxed);
    atomic_store_explicit(&object->pending, pending + change, memory_order_relaxed);
}

static void count_write(struct np_async *async, int change)
{
    atomic_fetch_add_explicit(&async->handle->pending_writes, (uint32_t)change, memory_order_release);
}

/* Those that are pended on links of which this process has both ends, by the link's token; guarded by the objects' lock. */
#define LOCAL_BUCKETS 64
static struct np_async *locals[LOCAL_BUCKETS];
_Atomic uint32_t np_async_local;

static struct np_async **bucket_of(uint64_t token)
{
    return &locals[token % LOCAL_BUCKETS];
}

/* With the objects' lock. */
static void count_local(uint32_t change)
{
    uint32_t count = atomic_load_explicit(&np_async_local, memory_order_relaxed);
    atomic_store_explicit(&np_async_local, count + change, memory_order_relaxed);
}

uint64_t np_async_twins_of(const struct np_link *link)
{
    return link->peer_pid == (pid_t)np_process.pid ? link->token : 0;
}

uint32_t np_async_moved_twins(uint64_t token, struct np_handle **handles, uint32_t most)
{
    uint32_t count = 0;
    np_objects_lock();
    for (struct np_async *async = *bucket_of(token); async && count < most; async = async->of_twins.next)
        if (async->twins == token && np_async_has_moved(async))
            count = np_async_add_handle(async, handles, count);
    np_objects_unlock();
    return count;
}

/* It is under way from now on, with a reference of its own until it is told. */
static void enlist(struct np_async *async, struct np_link *link)
{
    struct np_object *object = signalled_by(async);
    np_async_ref(async);
    if (async->kind == NP_ASYNC_WRITE)
        count_write(async, 1);
    if (link)
        np_link_ref(link);
    np_objects_lock();
    async->link = link;
    async->listed = true;
    LIST(async->handle->asyncs, async, of_handle);
    if (async->thread)
        LIST(async->thread->asyncs, async, of_thread);
    if (object) {
        LIST(object->asyncs, async, of_object);
        count_pending(object, 1);
    }
    if (async->port)
        LIST(async->port->asyncs, async, of_port);
    async->twins = link ? np_async_twins_of(link) : 0;
    if (async->twins) {
        LIST(*bucket_of(async->twins), async, of_twins);
        count_local(1);
    }
    np_objects_unlock();
}

static void delist(struct np_async *async)
{
    struct np_object *object = signalled_by(async);
    if (!async->listed)
        return;
    async->listed = false;
    UNLIST(async->handle->asyncs, async, of_handle);
    if (async->thread)
        UNLIST(async->thread->asyncs, async, of_thread);
    if (object) {
        UNLIST(object->asyncs, async, of_object);
        count_pending(object, (uint32_t)-1);
    }
    if (async->port)
        UNLIST(async->port->asyncs, async, of_port);
    if (async->twins) {
        UNLIST(*bucket_of(async->twins), async, of_twins);
        count_local((uint32_t)-1);
    }
}

/* The start has failed at once: nothing is told. */
static uint32_t refuse(struct np_async *async, uint32_t code)
{
    np_objects_lock();
    struct np_link *link = async->link;
    async->link = NULL;
    if (async->listed && async->kind == NP_ASYNC_WRITE)
        count_write(async, -1);
    delist(async);
    np_objects_unlock();
    if (link)
        np_link_unref(link);
    np_async_unref(async);
    return code;
}

/* Told operations whose owners' references are to be given back; pushed by anybody, taken whole. */
static struct np_async *_Atomic finished;

static void finish(struct np_async *async)
{
    struct np_async *first = atomic_load_explicit(&finished, memory_order_relaxed);
    do
        async->next_finished = first;
    while (!atomic_compare_exchange_weak_explicit(&finished, &first, async, memory_order_release, memory_order_relaxed));
}

bool np_async_any_finished(void)
{
    return atomic_load_explicit(&finished, memory_order_relaxed) != NULL;
}

struct np_async *np_async_reap(void)
{
    /* Acquire: with the operation comes what its completion has stored. */
    return atomic_exchange_explicit(&finished, NULL, memory_order_acquire);
}

static _Atomic uint64_t told;

uint64_t np_async_clock(void)
{
    return atomic_load_explicit(&told, memory_order_relaxed);
}

/* With the objects' lock: the result, and its telling. Whether somebody else takes the operation on from there, with a reference:
 * the thread that its routine is queued to, the port. */
static bool tell(struct np_async *async, uint32_t code, uint32_t count)
{
    async->count = count;
    /* Relaxed: changed under the lock, and whoever asks compares with what he has asked before. */
    async->ended = atomic_load_explicit(&told, memory_order_relaxed) + 1;
    atomic_store_explicit(&told, async->ended, memory_order_relaxed);
    if (!async->port && !async->apc && !async->no_packet && async->handle->port) {
        async->port = async->handle->port;
        async->key = async->handle->port_key;
        np_object_ref(async->port);
    }
    if (async->port && async->port->closed) { /* nobody takes it from there any more */
        np_object_unref(async->port);
        async->port = NULL;
    }
    /* Release: who sees the code sees the count and the buffer. */
    atomic_store_explicit(&async->code, code, memory_order_release);
    return async->apc || async->port;
}

void np_async_complete(struct np_async *async, uint32_t code, uint32_t count)
{
    np_objects_lock();
    struct np_link *link = async->link;
    async->link = NULL;
    bool was_listed = async->listed;
    delist(async);
    bool handed_on = tell(async, code, count);
    if (was_listed && async->kind == NP_ASYNC_WRITE)
        count_write(async, -1); /* after the code: who finds no pending write finds what became of it */
    np_tell(async);
    np_objects_unlock();
    if (!handed_on)
        finish(async);
    if (link)
        np_link_unref(link); /* not the last: its handle has one while its locks are held */
}

/* The start itself has done it: it was never in a queue or a list. */
static void complete_at_once(struct np_async *async, uint32_t code, uint32_t count)
{
    np_objects_lock();
    async->by_start = !tell(async, code, count);
    if (!async->by_start)
        np_async_ref(async);
    np_tell(async);
    np_objects_unlock();
}

/* What the start of an operation that is under way returns. It may be over already, but a failure has been told then, and is not
 * to be returned as well: the caller would take it for a start that has failed, of which nothing is told. */
static uint32_t outcome(const struct np_async *async)
{
    uint32_t code = np_async_code(async);
    return code == NP_OK || code == NP_MORE_DATA ? code : NP_IO_PENDING;
}

void np_async_bind(struct np_handle *handle, struct np_object *port, uint64_t key)
{
    np_object_ref(port);
    np_objects_lock();
    handle->port = port;
    handle->port_key = key;
    np_objects_unlock();
}

/* ---- Starting */

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
        op->completed = np_async_completed;
        enlist(async, link);
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
            code = np_tx_nowait(link, data, size, &written);
        else
            code = np_tx_write(link, data, size);
        if (code == NP_WOULD_WAIT && atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT)
            code = NP_NO_SYSTEM_RESOURCES; /* as in write_with */
    }
    if (code == NP_WOULD_WAIT) {
        op->completed = np_async_completed;
        enlist(async, link);
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

/* A request that outgrows the quota belongs to the engine from then on: the transaction may be over before it is read. A peer who
 * answers and does not read is not sent any more than is kept for him. */
static uint32_t send_request(struct np_link *link, const void *data, uint32_t size)
{
    uint32_t code = np_tx_try(link, data, size);
    if (code != NP_WOULD_WAIT)
        return code;
    code = np_tx_pump(link); /* what he has read is not kept any more */
    if (code != NP_OK)
        return code;
    return np_tx_may_detach(link, size) ? np_tx_detach(link, data, size) : NP_NO_SYSTEM_RESOURCES;
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
        op->pended = true;
        op->completed = np_async_completed;
        async->message_mode = true;
        enlist(async, link);
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

/* ---- Connecting */

/* With the process lock held. */
void np_async_add_connect(struct np_async *async)
{
    enlist(async, NULL);
    async->next_connect = async->handle->connects;
    async->handle->connects = async;
}

void np_async_end_connects(struct np_handle *handle)
{
    uint32_t state = atomic_load_explicit(&handle->state, memory_order_acquire);
    if (state == NP_LISTENING)
        return; /* only somebody who is blocked in it is meant */
    uint32_t code = state == NP_CONNECTED ? NP_OK : state == NP_DISCONNECTED ? NP_PIPE_NOT_CONNECTED : NP_BROKEN_PIPE;
    struct np_async *async = handle->connects;
    handle->connects = NULL;
    while (async) {
        struct np_async *next = async->next_connect;
        np_async_complete(async, code, 0);
        async = next;
    }
}

bool np_async_fail_connect(struct np_handle *handle)
{
    struct np_async **place = &handle->connects;
    if (!*place)
        return false;
    while ((*place)->next_connect)
        place = &(*place)->next_connect; /* the one that began first */
    struct np_async *async = *place;
    *place = NULL;
    np_async_complete(async, NP_NO_SYSTEM_RESOURCES, 0);
    return true;
}

bool np_async_cancel_connect(struct np_async *async)
{
    bool found = false;
    pthread_mutex_lock(&np_process.lock);
    for (struct np_async **place = &async->handle->connects; *place; place = &(*place)->next_connect)
        if (*place == async) {
            *place = async->next_connect;
            found = true;
            break;
        }
    if (found)
        np_async_complete(async, NP_OPERATION_ABORTED, 0);
    pthread_mutex_unlock(&np_process.lock);
    return found;
}

void np_async_after_fork(struct np_handle *handle)
{
    for (struct np_async *async = handle->asyncs, *next; async; async = next) {
        next = async->of_handle.next;
        delist(async);
        async->link = NULL;
        atomic_store(&async->code, NP_OPERATION_ABORTED);
    }
    handle->asyncs = handle->connects = NULL;
    handle->to_arm = false;
    np_async_arm_none();
}
