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

/* With the objects' lock: the result, and its telling. Whether somebody else takes the operation on from there, with a reference:
 * the thread that its routine is queued to, the port. */
static bool tell(struct np_async *async, uint32_t code, uint32_t count)
{
    async->count = count;
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

/* ---- Driving */

/* What has to move before there is anything to do, for all that are pended. */
static void note_reads(struct np_link *link)
{
    for (struct np_op *op = link->rx.first; op; op = op->next)
        if (op->completed) {
            struct np_async *async = np_async_of(op);
            atomic_store_explicit(&async->seen_tail, link->rx.tail, memory_order_relaxed);
            atomic_store_explicit(&async->seen_rewinds, link->rx.rewinds, memory_order_relaxed);
        }
}

static void note_writes(struct np_link *link)
{
    for (struct np_op *op = link->tx.first; op; op = op->next)
        if (op->completed && op->completed != np_detached_done) {
            struct np_async *async = np_async_of(op);
            atomic_store_explicit(&async->seen_tail, link->tx.head, memory_order_relaxed);
            atomic_store_explicit(&async->seen_consumed, link->tx.consumed, memory_order_relaxed);
            atomic_store_explicit(&async->seen_taken, link->tx.taken, memory_order_relaxed);
        }
}

static struct np_glance glance_of(const struct np_async *async)
{
    return (struct np_glance){
        .link = async->link,
        .write = async->kind == NP_ASYNC_WRITE,
        .tail = atomic_load_explicit(&async->seen_tail, memory_order_relaxed),
        .consumed = atomic_load_explicit(&async->seen_consumed, memory_order_relaxed),
        .taken = atomic_load_explicit(&async->seen_taken, memory_order_relaxed),
        .rewinds = atomic_load_explicit(&async->seen_rewinds, memory_order_relaxed),
    };
}

static bool has_moved(const struct np_async *async)
{
    const struct np_glance glance = glance_of(async);
    return glance.link && np_glance_moved(&glance);
}

/* A pended operation's op->completed: the engine's queues know nothing of overlapped operations but this. */
static void completed(struct np_op *op)
{
    np_async_complete(np_async_of(op), op->code, op->code == NP_OK ? op->size : 0);
}

void np_async_drive_reads(struct np_handle *handle, struct np_link *link)
{
    struct np_op *op;
    while ((op = link->rx.first) && op->completed) {
        struct np_async *async = np_async_of(op);
        uint32_t code = np_read_step(handle, link, op, async->message_mode, false);
        /* Reads are pended on an empty queue, so what stands there came after this one, and was its at once: a
         * DisconnectNamedPipe behind it takes nothing back. */
        if (code == NP_PIPE_NOT_CONNECTED && np_rx_read(link, op, async->message_mode, false) == NP_OK)
            code = NP_OK;
        if (code == NP_WOULD_WAIT || (code == NP_NO_DATA && async->kind == NP_ASYNC_TRANSACT))
            break; /* a transaction waits also on a NOWAIT handle (SEMANTICS 8.2) */
        np_rx_leave(link, op);
        if (code == NP_OK)
            np_async_complete(async, op->code, op->count);
        else
            np_async_complete(async, code, 0);
    }
    note_reads(link);
}

/* The reader has gone. The first pended write fails; with its bytes out of the way those behind it that are within the quota
 * count as written, which on a pipe that is at its end is as good as lost (as the recorded scenarios have it). */
static void fail_writes(struct np_link *link, uint32_t code)
{
    struct np_tx *tx = &link->tx;
    uint64_t kept = 0;
    bool first = true;
    if (tx->first && code == NP_BROKEN_PIPE && tx->first->end - tx->first->size > tx->consumed)
        kept = tx->first->end - tx->first->size - tx->consumed;
    struct np_op *next;
    for (struct np_op *op = tx->first; op; op = next) {
        next = op->next;
        if (!op->completed)
            continue;
        if (op->completed == np_detached_done) { /* nobody waits for a transaction's request: its bytes stay in the way */
            uint64_t begin = op->end - op->size;
            kept += op->end - (begin > tx->consumed ? begin : tx->consumed);
            np_tx_forget(link, op);
            op->code = code;
            op->completed(op);
            continue;
        }
        bool fits = !first && kept + op->size <= tx->quota;
        if (fits)
            kept += op->size;
        first = false;
        np_tx_forget(link, op);
        op->code = fits ? NP_OK : code;
        op->completed(op);
    }
}

void np_async_drive_writes(struct np_handle *handle, struct np_link *link)
{
    (void)handle;
    if (!link->tx.first)
        return;
    /* The condition before the ring: what the peer had read before it went is written. */
    uint32_t condition = np_write_condition(link, true);
    uint32_t code = np_tx_pump(link);
    if (code == NP_OK)
        code = condition;
    if (code != NP_OK)
        fail_writes(link, code);
    note_writes(link);
}

/* A client whose open has returned ends what waits for it; he who let it in may still be at that. */
static void settle_connects(const struct np_handle *handle)
{
    if (!handle->server || atomic_load_explicit(&handle->state, memory_order_acquire) != NP_LISTENING)
        return;
    pthread_mutex_lock(&np_process.lock);
    pthread_mutex_unlock(&np_process.lock);
}

void np_async_drive(struct np_handle *handle)
{
    settle_connects(handle);
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link && handle->link->rx.first)
        np_async_drive_reads(handle, handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
    if (atomic_load_explicit(&handle->pending_writes, memory_order_acquire) == 0)
        return;
    pthread_mutex_lock(&handle->tx_lock);
    if (handle->link)
        np_async_drive_writes(handle, handle->link);
    pthread_mutex_unlock(&handle->tx_lock);
}

static uint32_t add_handle(const struct np_async *async, struct np_handle **handles, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (handles[i] == async->handle)
            return count;
    np_hold(async->handle);
    handles[count] = async->handle;
    return count + 1;
}

/* Notes what has to move before `async` can go on. False: there is no room for it. */
static bool note(const struct np_async *async, struct np_glances *glances)
{
    if (!async->link)
        return true; /* whoever completes it signals what it is waited for with */
    if (glances->count == NP_MOST_GLANCES)
        return false;
    struct np_glance *glance = &glances->items[glances->count++];
    *glance = glance_of(async);
    glance->handle = async->handle;
    np_hold(glance->handle);
    np_link_ref(glance->link);
    glance->next = np_rx_place(glance->link, glance->tail); /* where that is the head's: a read is pended on an empty ring */
    return true;
}

bool np_async_note(const struct np_object *object, struct np_glances *glances)
{
    bool port = object->kind == NP_OBJECT_PORT;
    for (struct np_async *async = object->asyncs; async; async = port ? async->of_port.next : async->of_object.next)
        if (!note(async, glances))
            return false;
    return true;
}

bool np_async_note_thread(const struct np_thread *thread, struct np_glances *glances)
{
    for (struct np_async *async = thread->asyncs; async; async = async->of_thread.next)
        if (async->apc && !note(async, glances))
            return false;
    return true;
}

void np_async_forget(struct np_glances *glances)
{
    while (glances->count) {
        struct np_glance *glance = &glances->items[--glances->count];
        np_link_unref(glance->link);
        np_free(glance->handle);
    }
}

#define COLLECT(head, list, condition)                                                             \
    for (struct np_async *async = (head); async && count < most; async = async->list.next)         \
        if (condition)                                                                             \
            count = add_handle(async, handles, count);                                             \
    return count

uint32_t np_async_moved(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most)
{
    if (object->kind == NP_OBJECT_PORT) {
        COLLECT(object->asyncs, of_port, has_moved(async));
    }
    COLLECT(object->asyncs, of_object, has_moved(async));
}

uint32_t np_async_moved_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most)
{
    COLLECT(thread->asyncs, of_thread, async->apc && has_moved(async));
}

uint32_t np_async_moved_by(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most)
{
    COLLECT(thread->asyncs, of_thread, has_moved(async));
}

uint32_t np_async_connecting(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most)
{
    if (object->kind == NP_OBJECT_PORT) {
        COLLECT(object->asyncs, of_port, async->kind == NP_ASYNC_CONNECT);
    }
    COLLECT(object->asyncs, of_object, async->kind == NP_ASYNC_CONNECT);
}

uint32_t np_async_pending(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most)
{
    if (object->kind == NP_OBJECT_PORT) {
        COLLECT(object->asyncs, of_port, async->link);
    }
    COLLECT(object->asyncs, of_object, async->link);
}

uint32_t np_async_pending_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most)
{
    COLLECT(thread->asyncs, of_thread, async->apc && async->link);
}

/* ---- The native thread's part */

#define ARM_AFTER_NS INT64_C(500000)
#define MOST_TURNS 4

static pthread_mutex_t arm_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct np_handle *to_arm;

/* Somebody may wait for this operation in a moment, and the peer's next message then costs him no system call. If nobody has
 * when the moment is over, the native thread takes care of it. */
void np_async_arm_later(struct np_handle *handle)
{
    if (atomic_load_explicit(&handle->to_arm, memory_order_acquire))
        return;
    pthread_mutex_lock(&arm_lock);
    bool fresh = !handle->to_arm;
    if (fresh) {
        handle->to_arm = true;
        handle->next_to_arm = to_arm;
        to_arm = handle;
        np_hold(handle);
    }
    pthread_mutex_unlock(&arm_lock);
    if (fresh)
        np_alarm(np_now() + ARM_AFTER_NS);
}

bool np_async_arm(struct np_handle *handle)
{
    bool quiet = true;
    np_handle_watch_events(handle);
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (link && link->rx.first && link->rx.first->completed) {
        np_rx_post(link);
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_READ, memory_order_relaxed);
        /* Full fence, with its twin in the writer's publish: either it sees us armed, or we see its tail. */
        atomic_thread_fence(memory_order_seq_cst);
        if (has_moved(np_async_of(link->rx.first))) {
            np_async_drive_reads(handle, link);
            quiet = false;
        }
    }
    pthread_mutex_unlock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    link = handle->link;
    if (link && link->tx.first && link->tx.first->completed) {
        np_tx_set_thresholds(link);
        /* Release: the thresholds come before the flag that makes the reader look at them. */
        atomic_fetch_or_explicit(&link->sleep->flags, NPL_ARMED_WRITE, memory_order_release);
        atomic_thread_fence(memory_order_seq_cst); /* with its twin in the reader's commit */
        if (np_tx_moved(link) || !np_link_quiet(link)) {
            np_async_drive_writes(handle, link);
            quiet = false;
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return quiet;
}

void np_async_tend(struct np_handle *handle)
{
    np_async_drive(handle);
    for (int i = 0; i < MOST_TURNS; i++)
        if (np_async_arm(handle))
            return;
    np_async_arm_later(handle); /* its peer keeps it moving: others have a turn first */
}

void np_async_arm_listed(void)
{
    pthread_mutex_lock(&arm_lock);
    struct np_handle *list = to_arm;
    to_arm = NULL;
    for (struct np_handle *handle = list; handle; handle = handle->next_to_arm)
        handle->to_arm = false;
    /* Still linked by next_to_arm; whoever lists one of them again while we walk does so through the head, after this. */
    struct np_handle *batch = NULL;
    while (list) {
        struct np_handle *handle = list;
        list = handle->next_to_arm;
        handle->next_tended = batch;
        batch = handle;
    }
    pthread_mutex_unlock(&arm_lock);
    while (batch) {
        struct np_handle *handle = batch;
        batch = handle->next_tended;
        np_async_tend(handle);
        np_free(handle);
    }
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
        op->completed = completed;
        enlist(async, link);
        np_queue_append(&link->rx.first, &link->rx.last, op);
        np_rx_post(link);
        np_async_drive_reads(handle, link);
        code = outcome(async);
        pended = np_async_code(async) == NP_IO_PENDING;
    }
    pthread_mutex_unlock(&handle->rx_lock);
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
            sleep = !has_moved(async);
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
    bool pended = false;
    op->in = data;
    op->size = size;
    if (code == NP_OK && !(size == 0 && link->type != NP_TYPE_MESSAGE)) {
        if (atomic_load_explicit(&handle->mode, memory_order_relaxed) & NP_MODE_NOWAIT && size)
            code = np_tx_nowait(link, data, size, &written);
        else
            code = np_tx_write(link, data, size);
    }
    if (code == NP_WOULD_WAIT) {
        op->completed = completed;
        enlist(async, link);
        code = np_tx_submit(link, op);
        if (code == NP_OK || np_async_code(async) != NP_IO_PENDING) {
            note_writes(link);
            code = outcome(async);
            pended = np_async_code(async) == NP_IO_PENDING;
        } else {
            np_tx_forget(link, op);
            code = refuse(async, code);
        }
    } else if (code == NP_OK) {
        complete_at_once(async, NP_OK, written);
    }
    bool at_once = pended && !np_tx_all_put(link);
    bool detached = link && np_tx_only_detached(link);
    pthread_mutex_unlock(&handle->tx_lock);
    if (pended || detached)
        np_async_arm_later(handle);
    if (at_once)
        np_alarm(0); /* the reader is to find all of it, and needs us to bring the rest */
    return code;
}

/* A request that outgrows the quota belongs to the engine from then on: the transaction may be over before it is read. */
static uint32_t send_request(struct np_link *link, const void *data, uint32_t size)
{
    uint32_t code = np_tx_try(link, data, size);
    return code == NP_WOULD_WAIT ? np_tx_detach(link, data, size) : code;
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
        op->completed = completed;
        async->message_mode = true;
        enlist(async, link);
        np_queue_append(&link->rx.first, &link->rx.last, op);
        np_rx_post(link);
        note_reads(link);
        code = send_request(link, data, size);
        if (code != NP_OK) {
            np_rx_leave(link, op);
            code = refuse(async, code);
        } else {
            code = NP_IO_PENDING;
        }
    }
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    if (code == NP_IO_PENDING)
        np_async_arm_later(handle);
    return code;
}

/* ---- Ending */

void np_async_end(struct np_link *link, uint32_t code)
{
    struct np_op *next;
    for (struct np_op *op = link->rx.first; op; op = next) {
        next = op->next;
        if (!op->completed)
            continue;
        np_rx_leave(link, op);
        np_async_complete(np_async_of(op), code, 0);
    }
    for (struct np_op *op = link->tx.first; op; op = next) {
        next = op->next;
        if (!op->completed)
            continue;
        bool stays = code == NP_BROKEN_PIPE && op->started && op->count == op->size;
        np_tx_forget(link, op);
        /* What stands in the ring stays readable after a close (SEMANTICS 3.4). */
        op->code = stays ? NP_OK : code;
        op->completed(op);
    }
}

static bool cancel_read(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = async->link;
    bool pending = link && np_async_code(async) == NP_IO_PENDING;
    if (pending) {
        struct np_op *op = &async->op;
        np_rx_leave(link, op);
        if (!async->message_mode && op->count)
            np_async_complete(async, NP_OK, op->count); /* what a byte-mode read has taken, it has read */
        else if (np_rx_give_back(link, op))
            np_async_complete(async, NP_OPERATION_ABORTED, 0);
        else
            np_async_complete(async, np_link_violated(link), 0);
    }
    pthread_mutex_unlock(&handle->rx_lock);
    return pending;
}

static bool cancel_write(struct np_async *async)
{
    struct np_handle *handle = async->handle;
    np_objects_drive_moved(); /* a read of this process that is pended for these bytes has them already */
    pthread_mutex_lock(&handle->tx_lock);
    struct np_link *link = async->link;
    bool pending = link && np_async_code(async) == NP_IO_PENDING;
    if (pending) {
        np_link_ref(link);
        uint32_t code = np_withdraw(handle, link, &async->op);
        pending = np_async_code(async) == NP_IO_PENDING;
        if (pending) {
            if (async->op.queued)
                np_tx_forget(link, &async->op);
            np_async_complete(async, code == NP_OK ? NP_OPERATION_ABORTED : code == NP_NO_DATA ? NP_OK : code,
                              code == NP_NO_DATA ? async->op.size : 0);
        }
        np_link_unref(link);
    }
    pthread_mutex_unlock(&handle->tx_lock);
    return pending;
}

bool np_async_cancel(struct np_async *async)
{
    if (np_async_code(async) != NP_IO_PENDING)
        return false;
    switch (async->kind) {
    case NP_ASYNC_WRITE:
        return cancel_write(async);
    case NP_ASYNC_CONNECT:
        return np_async_cancel_connect(async);
    default:
        return cancel_read(async);
    }
}

/* The next to cancel: reads in the order in which they began, then writes from the last one back, so that none is let through
 * by the one before it going away. With the objects' lock. */
static struct np_async *next_to_cancel(const struct np_handle *handle, const struct np_thread *thread)
{
    struct np_async *read = NULL, *write = NULL;
    for (struct np_async *async = handle->asyncs; async; async = async->of_handle.next) {
        if (async->cancelling || (thread && async->thread != thread))
            continue;
        if (async->kind != NP_ASYNC_WRITE)
            read = async;
        else if (!write)
            write = async;
    }
    return read ? read : write;
}

uint32_t np_async_cancel_all(struct np_handle *handle, const struct np_thread *thread)
{
    uint32_t cancelled = 0;
    np_async_drive(handle);
    for (;;) {
        np_objects_lock();
        struct np_async *found = next_to_cancel(handle, thread);
        if (found) {
            found->cancelling = true;
            np_async_ref(found);
        }
        np_objects_unlock();
        if (!found)
            return cancelled;
        cancelled += np_async_cancel(found);
        np_async_unref(found);
    }
}

void np_async_cancel_thread(struct np_thread *thread)
{
    for (;;) {
        np_objects_lock();
        struct np_async *found = NULL;
        for (struct np_async *async = thread->asyncs; async; async = async->of_thread.next)
            if (!async->cancelling && !async->port)
                found = async;
        if (found) {
            found->cancelling = true;
            np_async_ref(found);
        }
        np_objects_unlock();
        if (!found)
            return;
        np_async_cancel(found);
        np_async_unref(found);
    }
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
    to_arm = NULL;
    pthread_mutex_init(&arm_lock, NULL);
}
