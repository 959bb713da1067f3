#include "overlapped/drive.h"

#include "base/codes.h"
#include "base/platform.h"
#include "process/process.h"
#include "ring/link.h"
#include "ring/op.h"
#include "ring/rx.h"
#include "ring/segment.h"
#include "ring/tx.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "handle/step.h"
#include "overlapped/operation.h"

void np_async_after_fork(struct np_handle *handle)
{
    for (struct np_async *async = handle->asyncs, *next; async; async = next) {
        next = async->of_handle.next;
        np_async_delist(async);
        async->link = NULL;
        atomic_store(&async->code, NP_OPERATION_ABORTED);
    }
    handle->asyncs = handle->connects = NULL;
    handle->to_arm = false;
    np_async_arm_none();
}

/* ---- Driving */

/* What has to move before there is anything to do, for all that are pended. */
void np_async_note_reads(struct np_link *link)
{
    for (struct np_op *op = link->rx.first; op; op = op->next)
        if (op->completed) {
            struct np_async *async = np_async_of(op);
            atomic_store_explicit(&async->seen_tail, link->rx.tail, memory_order_relaxed);
            atomic_store_explicit(&async->seen_rewinds, link->rx.rewinds, memory_order_relaxed);
            atomic_store_explicit(&async->seen_next, np_rx_place(link, link->rx.head), memory_order_relaxed);
            atomic_store_explicit(&async->seen_early, np_rx_fetches_early(&link->rx), memory_order_relaxed);
        }
}

void np_async_note_writes(struct np_link *link)
{
    for (struct np_op *op = link->tx.first; op; op = op->next)
        if (op->completed && op->completed != np_detached_done) {
            struct np_async *async = np_async_of(op);
            atomic_store_explicit(&async->seen_tail, link->tx.head, memory_order_relaxed);
            atomic_store_explicit(&async->seen_consumed, link->tx.consumed, memory_order_relaxed);
            atomic_store_explicit(&async->seen_taken, link->tx.taken, memory_order_relaxed);
        }
}

void np_async_drive_reads(struct np_handle *handle, struct np_link *link)
{
    struct np_op *op;
    while ((op = link->rx.first) && op->completed) {
        struct np_async *async = np_async_of(op);
        uint32_t code = np_read_step(handle, link, op, async->message_mode, false);
        if (code == NP_WOULD_WAIT || (code == NP_NO_DATA && async->kind == NP_ASYNC_TRANSACT))
            break; /* a transaction waits also on a NOWAIT handle (SEMANTICS 8.2) */
        code = np_read_end(op, async->message_mode, code);
        np_rx_leave(link, op);
        if (code == NP_OK)
            np_async_complete(async, op->code, op->count);
        else
            np_async_complete(async, code, 0);
    }
    np_async_note_reads(link);
}

/* The reader has gone. The first pended write fails; with its bytes out of the way those behind it that are within the
 * quota count as written, which on a pipe that is at its end is as good as lost (as the recorded scenarios have it). */
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
        /* nobody waits for a transaction's request: its bytes stay in the way */
        if (op->completed == np_detached_done) {
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
    np_async_note_writes(link);
}

/* A client whose open has returned ends what waits for it; whoever let it in may still be at that. */
static void settle_connects(const struct np_handle *handle)
{
    if (!handle->server || atomic_load_explicit(&handle->state, memory_order_acquire) != NP_LISTENING)
        return;
    pthread_mutex_lock(&np_process.lock);
    pthread_mutex_unlock(&np_process.lock);
}

/* Both rings of one end. What to drive on account of it. */
static uint64_t drive_end(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    if (handle->link && handle->link->rx.first)
        np_async_drive_reads(handle, handle->link);
    uint64_t pair = np_async_pair(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
    if (atomic_load_explicit(&handle->pending_writes, memory_order_acquire) == 0)
        return pair;
    pthread_mutex_lock(&handle->tx_lock);
    if (handle->link)
        np_async_drive_writes(handle, handle->link);
    pthread_mutex_unlock(&handle->tx_lock);
    return pair;
}

void np_async_drive(struct np_handle *handle)
{
    settle_connects(handle);
    uint64_t pair = drive_end(handle);
    if (pair)
        np_async_drive_pair(pair);
}

#define MOST_ROUNDS 64 /* what one end's read gives room to, the other's reads take, and so on */

void np_async_drive_pair(uint64_t token)
{
    struct np_handle *handles[2];
    for (int i = 0; i < MOST_ROUNDS; i++) {
        uint32_t count = np_async_moved_pair(token, handles, 2);
        if (!count)
            return;
        while (count) {
            drive_end(handles[--count]);
            np_free(handles[count]);
        }
    }
}

/* Notes what has to move before `async` can go on. False: there is no room for it. */
static bool note(const struct np_async *async, struct np_snapshots *snapshots)
{
    if (!async->link)
        return true; /* whoever completes it signals what it is waited for with */
    if (snapshots->count == NP_MOST_SNAPSHOTS)
        return false;
    struct np_snapshot *snapshot = &snapshots->items[snapshots->count++];
    *snapshot = np_snapshot_of(async);
    snapshot->handle = async->handle;
    np_hold(snapshot->handle);
    np_link_ref(snapshot->link);
    return true;
}

bool np_async_note(const struct np_object *object, struct np_snapshots *snapshots)
{
    bool port = object->kind == NP_OBJECT_PORT;
    for (struct np_async *async = object->asyncs; async; async = port ? async->of_port.next : async->of_object.next)
        if (!note(async, snapshots))
            return false;
    return true;
}

bool np_async_note_thread(const struct np_thread *thread, struct np_snapshots *snapshots)
{
    for (struct np_async *async = thread->asyncs; async; async = async->of_thread.next)
        if (async->apc && !note(async, snapshots))
            return false;
    return true;
}

void np_async_forget(struct np_snapshots *snapshots)
{
    while (snapshots->count) {
        struct np_snapshot *snapshot = &snapshots->items[--snapshots->count];
        np_link_unref(snapshot->link);
        np_free(snapshot->handle);
    }
}

#define COLLECT(head, list, condition)                                                     \
    for (struct np_async *async = (head); async && count < most; async = async->list.next) \
        if (condition)                                                                     \
            count = np_async_add_handle(async, handles, count);                            \
    return count

uint32_t np_async_moved(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most)
{
    if (object->kind == NP_OBJECT_PORT) {
        COLLECT(object->asyncs, of_port, np_async_has_moved(async));
    }
    COLLECT(object->asyncs, of_object, np_async_has_moved(async));
}

uint32_t np_async_moved_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count,
                                  uint32_t most)
{
    COLLECT(thread->asyncs, of_thread, async->apc && np_async_has_moved(async));
}

uint32_t np_async_moved_by(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most)
{
    COLLECT(thread->asyncs, of_thread, np_async_has_moved(async));
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

uint32_t np_async_pending_of_thread(const struct np_thread *thread, uint32_t *passed, struct np_handle **handles,
                                    uint32_t count, uint32_t most)
{
    uint32_t place = 0;
    struct np_async *async = thread->asyncs;
    for (; async && count < most; async = async->of_thread.next, place++)
        if (place >= *passed && async->apc && async->link)
            count = np_async_add_handle(async, handles, count);
    *passed = async ? place : UINT32_MAX;
    return count;
}

/* ---- The native thread's part */

#define ARM_AFTER_NS INT64_C(500000)
#define MOST_TURNS 4

static pthread_mutex_t arm_lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct np_handle *to_arm;

static void list_to_arm(struct np_handle *handle)
{
    if (atomic_load_explicit(&handle->to_arm, memory_order_acquire))
        return;
    pthread_mutex_lock(&arm_lock);
    bool fresh = !handle->to_arm;
    if (fresh) {
        handle->to_arm = true;
        handle->starts_listed = atomic_load_explicit(&handle->starts, memory_order_relaxed);
        handle->next_to_arm = to_arm;
        to_arm = handle;
        np_hold(handle);
    }
    pthread_mutex_unlock(&arm_lock);
    if (fresh)
        np_alarm(np_now() + ARM_AFTER_NS);
}

/* Somebody may wait for this operation in a moment, and the peer's next message then costs it no system call. If nobody
 * has when the moment is over, the native thread takes care of it. */
void np_async_arm_later(struct np_handle *handle)
{
    /* Relaxed, and not even counted exactly: who looks only wants to know whether there was one meanwhile. */
    uint32_t starts = atomic_load_explicit(&handle->starts, memory_order_relaxed);
    atomic_store_explicit(&handle->starts, starts + 1, memory_order_relaxed);
    list_to_arm(handle);
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
        if (np_async_has_moved(np_async_of(link->rx.first))) {
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

static void arm_now(struct np_handle *handle)
{
    for (int i = 0; i < MOST_TURNS; i++)
        if (np_async_arm(handle))
            return;
    list_to_arm(handle); /* its peer keeps it moving: others have a turn first */
}

/* Whether a thread sleeps until one of the handle's operations is over; who spins moves them on itself. */
static bool awaited(const struct np_handle *handle)
{
    bool found = false;
    np_objects_lock();
    for (const struct np_async *async = handle->asyncs; async && !found; async = async->of_handle.next) {
        const struct np_object *object = async->event ? async->event : async->file;
        found = (async->apc && atomic_load_explicit(&async->thread->sleeps, memory_order_relaxed)) ||
                (!async->apc && object && object->waiters) || (async->port && async->port->waiters);
    }
    np_objects_unlock();
    return found;
}

/* Takes the bytes that have woken the native thread, unless somebody else waits for bytes of that socket: they are not
 * told apart. */
static void take_bytes(struct np_handle *handle)
{
    pthread_mutex_lock(&handle->rx_lock);
    struct np_link *link = handle->link;
    if (link && !link->rx.polled && !link->rx.on_socket)
        for (int i = 0; i < NP_MOST_DRAINED && np_link_drain_socket(link); i++)
            continue;
    pthread_mutex_unlock(&handle->rx_lock);
}

void np_async_woken(struct np_handle *handle)
{
    take_bytes(handle);
    np_async_drive(handle);
    /* Two that exchange messages without sleeping would pay a system call and a wake for each of them, were this armed
     * again at once. */
    if (awaited(handle))
        arm_now(handle);
    else
        list_to_arm(handle);
}

void np_async_arm_listed(void)
{
    pthread_mutex_lock(&arm_lock);
    struct np_handle *list = to_arm;
    to_arm = NULL;
    for (struct np_handle *handle = list; handle; handle = handle->next_to_arm)
        handle->to_arm = false;
    /* Still linked by next_to_arm; whoever lists one of them again while we walk does so through the head, after
     * this. */
    struct np_handle *batch = NULL;
    while (list) {
        struct np_handle *handle = list;
        list = handle->next_to_arm;
        handle->starts_driven = handle->starts_listed; /* while the lock is held: it may be listed again meanwhile */
        handle->next_woken = batch;
        batch = handle;
    }
    pthread_mutex_unlock(&arm_lock);
    while (batch) {
        struct np_handle *handle = batch;
        batch = handle->next_woken;
        np_async_drive(handle);
        /* While operations are started all the time, those who start them look at them too, unless one of them
         * sleeps. */
        if (atomic_load_explicit(&handle->starts, memory_order_relaxed) == handle->starts_driven || awaited(handle))
            arm_now(handle);
        else
            list_to_arm(handle);
        np_free(handle);
    }
}

void np_async_arm_none(void)
{
    to_arm = NULL;
    pthread_mutex_init(&arm_lock, NULL);
}
