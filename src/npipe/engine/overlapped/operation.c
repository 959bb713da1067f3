#include "overlapped/operation.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/codes.h"
#include "base/status.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/op.h"
#include "handle/handle.h"
#include "handle/objects.h"

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

bool np_async_reusable(const struct np_async *async)
{
    /* Acquire: what others did with it comes before what its owner does with it now. */
    return np_async_code(async) != NP_IO_PENDING && atomic_load_explicit(&async->refs, memory_order_acquire) == 1;
}

#define LIST(head, async, list)              \
    do {                                     \
        (async)->list.previous = NULL;       \
        (async)->list.next = (head);         \
        if (head)                            \
            (head)->list.previous = (async); \
        (head) = (async);                    \
    } while (0)

#define UNLIST(head, async, list)                                       \
    do {                                                                \
        if ((async)->list.previous)                                     \
            (async)->list.previous->list.next = (async)->list.next;     \
        else                                                            \
            (head) = (async)->list.next;                                \
        if ((async)->list.next)                                         \
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

void np_async_count_write(struct np_async *async, int change)
{
    atomic_fetch_add_explicit(&async->handle->pending_writes, (uint32_t)change, memory_order_release);
}

/* Those that are pended on links of which this process has both ends, by the link's token; guarded by the objects'
 * lock. */
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

uint64_t np_async_pair_of(const struct np_link *link)
{
    return link->peer_pid == (pid_t)np_process.pid ? link->token : 0;
}

uint32_t np_async_moved_pair(uint64_t token, struct np_handle **handles, uint32_t most)
{
    uint32_t count = 0;
    np_objects_lock();
    for (struct np_async *async = *bucket_of(token); async && count < most; async = async->of_pair.next)
        if (async->pair == token && np_async_has_moved(async))
            count = np_async_add_handle(async, handles, count);
    np_objects_unlock();
    return count;
}

void np_async_enlist(struct np_async *async, struct np_link *link)
{
    struct np_object *object = signalled_by(async);
    np_async_ref(async);
    if (async->kind == NP_ASYNC_WRITE)
        np_async_count_write(async, 1);
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
    async->pair = link ? np_async_pair_of(link) : 0;
    if (async->pair) {
        LIST(*bucket_of(async->pair), async, of_pair);
        count_local(1);
    }
    np_objects_unlock();
}

void np_async_delist(struct np_async *async)
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
    if (async->pair) {
        UNLIST(*bucket_of(async->pair), async, of_pair);
        count_local((uint32_t)-1);
    }
}

/* Told operations whose owners' references are to be given back; pushed by anybody, taken whole. */
static struct np_async *_Atomic finished;

static void finish(struct np_async *async)
{
    struct np_async *first = atomic_load_explicit(&finished, memory_order_relaxed);
    do
        async->next_finished = first;
    while (
        !atomic_compare_exchange_weak_explicit(&finished, &first, async, memory_order_release, memory_order_relaxed));
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

bool np_async_tell(struct np_async *async, uint32_t code, uint32_t count)
{
    async->count = count;
    /* Relaxed: changed under the lock, and whoever asks compares with what it has asked before. */
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
    /* Release: who sees the status or the code sees the count and the buffer. */
    if (async->block) {
        atomic_store_explicit(&async->block->count, count, memory_order_relaxed);
        atomic_store_explicit(&async->block->status, np_status_of(code), memory_order_release);
    }
    atomic_store_explicit(&async->code, code, memory_order_release);
    return async->apc || async->port;
}

void np_async_complete(struct np_async *async, uint32_t code, uint32_t count)
{
    np_objects_lock();
    struct np_link *link = async->link;
    async->link = NULL;
    bool was_listed = async->listed;
    np_async_delist(async);
    bool handed_on = np_async_tell(async, code, count);
    if (was_listed && async->kind == NP_ASYNC_WRITE)
        np_async_count_write(async, -1); /* after the code: who finds no pending write finds what became of it */
    np_tell(async);
    np_objects_unlock();
    if (!handed_on)
        finish(async);
    if (link)
        np_link_unref(link); /* not the last: its handle has one while its locks are held */
}

void np_async_bind(struct np_handle *handle, struct np_object *port, uint64_t key)
{
    np_object_ref(port);
    np_objects_lock();
    handle->port = port;
    handle->port_key = key;
    np_objects_unlock();
}

/* ---- Connecting */

/* With the process lock held. */
void np_async_add_connect(struct np_async *async)
{
    np_async_enlist(async, NULL);
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

struct np_snapshot np_snapshot_of(const struct np_async *async)
{
    return (struct np_snapshot){
        .link = async->link,
        .write = async->kind == NP_ASYNC_WRITE,
        .tail = atomic_load_explicit(&async->seen_tail, memory_order_relaxed),
        .consumed = atomic_load_explicit(&async->seen_consumed, memory_order_relaxed),
        .taken = atomic_load_explicit(&async->seen_taken, memory_order_relaxed),
        .rewinds = atomic_load_explicit(&async->seen_rewinds, memory_order_relaxed),
        .next = atomic_load_explicit(&async->seen_next, memory_order_relaxed),
        .early = atomic_load_explicit(&async->seen_early, memory_order_relaxed),
    };
}

bool np_async_has_moved(const struct np_async *async)
{
    const struct np_snapshot snapshot = np_snapshot_of(async);
    return snapshot.link && np_snapshot_moved(&snapshot);
}

/* A pended operation's op->completed: the engine's queues know nothing of overlapped operations but this. */
void np_async_completed(struct np_op *op)
{
    np_async_complete(np_async_of(op), op->code, op->code == NP_OK ? op->size : 0);
}

uint32_t np_async_add_handle(const struct np_async *async, struct np_handle **handles, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (handles[i] == async->handle)
            return count;
    np_hold(async->handle);
    handles[count] = async->handle;
    return count + 1;
}

void np_tell(struct np_async *async)
{
    if (async->apc) {
        async->own_apc.async = async;
        np_apc_append(async->thread, &async->own_apc);
        return;
    }
    if (async->event)
        np_signal(async->event);
    else if (async->file)
        np_signal(async->file);
    if (async->port) {
        async->own_packet.count = async->count;
        async->own_packet.key = async->key;
        async->own_packet.async = async;
        np_packet_append(async->port, &async->own_packet);
    }
}
