#include "overlapped/wait.h"

#include "base/codes.h"
#include "base/platform.h"
#include "base/wait.h"
#include "handle/handle.h"
#include "handle/objects.h"
#include "handle/step.h"
#include "overlapped/drive.h"
#include "overlapped/operation.h"

void np_event_reset(struct np_object *event)
{
    np_object_settle(event);
    np_objects_lock();
    event->signalled = false;
    np_objects_unlock();
}

/* Nothing runs for a timer: who looks at it lets it ring. */
static void let_ring(struct np_object *timer, int64_t now)
{
    if (timer->due > now)
        return;
    timer->signalled = true;
    if (timer->period > 0)
        timer->due += (1 + (now - timer->due) / timer->period) * timer->period;
    else
        timer->due = NP_FOREVER;
}

static bool satisfied(struct np_object *object)
{
    switch (object->kind) {
    case NP_OBJECT_SEMAPHORE:
        return object->count > 0;
    case NP_OBJECT_MUTEX:
        return !object->owner || object->owner == np_thread_of_caller;
    case NP_OBJECT_PORT:
        return object->first_packet || object->closed;
    case NP_OBJECT_TIMER:
        if (object->due != NP_FOREVER)
            let_ring(object, np_now());
        return object->signalled;
    default:
        return object->signalled;
    }
}

/* What a wait does to the object that ends it. Whether that was a mutex whose owner had ended. */
static bool take(struct np_object *object)
{
    bool abandoned = object->abandoned;
    switch (object->kind) {
    case NP_OBJECT_SEMAPHORE:
        object->count--;
        break;
    case NP_OBJECT_MUTEX:
        if (!object->owner) {
            object->owner = np_thread_of_caller;
            object->next_owned = np_thread_of_caller->owned;
            np_thread_of_caller->owned = object;
        }
        object->count++;
        object->abandoned = false;
        break;
    default:
        if (!object->manual)
            object->signalled = false;
        abandoned = false;
    }
    return abandoned;
}

struct waiting {
    struct np_object *const *objects;
    uint32_t count;
    bool all, alertable;
    uint32_t seen; /* the thread's word */
    struct np_snapshots snapshots;
};

/* Whether the wait is over; takes the objects. */
static bool over(const struct waiting *waiting, uint32_t *index, bool *abandoned)
{
    *abandoned = false;
    if (waiting->count == 0)
        return false;
    for (uint32_t i = 0; i < waiting->count; i++) {
        bool ready = satisfied(waiting->objects[i]);
        if (ready && !waiting->all) {
            *index = i;
            *abandoned = take(waiting->objects[i]);
            return true;
        }
        if (!ready && waiting->all)
            return false;
    }
    if (!waiting->all)
        return false;
    *index = 0;
    for (uint32_t i = 0; i < waiting->count; i++)
        if (take(waiting->objects[i]))
            *abandoned = true;
    return true;
}

#define BATCH 16
#define MOST_DRIVES 4096

/* With the lock: the handles of what may go on that the wait is for; `connects`: also of what waits for a client. */
static uint32_t to_drive(const struct waiting *waiting, bool connects, struct np_handle **handles)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < waiting->count && count < BATCH; i++)
        count = np_async_moved(waiting->objects[i], handles, count, BATCH);
    for (uint32_t i = 0; connects && i < waiting->count && count < BATCH; i++)
        count = np_async_connecting(waiting->objects[i], handles, count, BATCH);
    if (waiting->alertable && count < BATCH)
        count = np_async_moved_of_thread(np_thread_of_caller, handles, count, BATCH);
    return count;
}

/* Moves on what the objects and, in an alertable wait, the thread wait for. Takes the lock, and holds it when nothing
 * is left to move. */
static bool drive_and_lock(const struct waiting *waiting, bool connects)
{
    struct np_handle *handles[BATCH];
    for (int turns = 0;; turns++) {
        np_objects_lock();
        /* A peer that moves all the time shall not keep this thread from looking at the clock. */
        uint32_t count = turns < MOST_DRIVES ? to_drive(waiting, connects, handles) : 0;
        if (!count)
            return turns < MOST_DRIVES;
        np_objects_unlock();
        for (uint32_t i = 0; i < count; i++) {
            np_async_drive(handles[i]);
            np_free(handles[i]);
        }
        connects = false; /* one of them is enough (settle_connects) */
    }
}

void np_objects_drive_moved(void)
{
    struct np_handle *handles[BATCH];
    for (int turns = 0; turns < MOST_DRIVES; turns++) {
        uint32_t count = 0;
        np_objects_lock();
        for (struct np_thread *thread = np_threads; thread && count < BATCH; thread = thread->next)
            count = np_async_moved_by(thread, handles, count, BATCH);
        np_objects_unlock();
        if (!count)
            return;
        for (uint32_t i = 0; i < count; i++) {
            np_async_drive(handles[i]);
            np_free(handles[i]);
        }
    }
}

void np_object_settle(struct np_object *object)
{
    /* Relaxed: what this thread has started is counted; a start of another thread's at the same time is before this or
     * after. */
    if (atomic_load_explicit(&object->pending, memory_order_relaxed) == 0)
        return;
    struct np_object *const objects[] = {object};
    const struct waiting waiting = {.objects = objects, .count = 1};
    drive_and_lock(&waiting, true);
    np_objects_unlock();
}

/* Asks the peers to wake the native thread, which wakes this one. False: something has moved meanwhile. Of a single
 * object with very many operations, and of what changes its place in the thread's list meanwhile, the native thread
 * takes care a moment after their start (np_async_arm_later). */
static bool arm(const struct waiting *waiting)
{
    struct np_handle *handles[NP_MOST_OBJECTS];
    uint32_t next = 0, passed = waiting->alertable ? 0 : UINT32_MAX;
    bool quiet = true;
    do {
        uint32_t count = 0, first = next;
        np_objects_lock();
        while (next < waiting->count && count < NP_MOST_OBJECTS)
            count = np_async_pending(waiting->objects[next++], handles, count, NP_MOST_OBJECTS);
        if (count == NP_MOST_OBJECTS && next - first > 1)
            next--; /* there was perhaps no place for all of that one's: once more, from there */
        if (passed != UINT32_MAX && count < NP_MOST_OBJECTS)
            count = np_async_pending_of_thread(np_thread_of_caller, &passed, handles, count, NP_MOST_OBJECTS);
        np_objects_unlock();
        for (uint32_t i = 0; i < count; i++) {
            quiet = np_async_arm(handles[i]) && quiet;
            np_free(handles[i]);
        }
    } while (next < waiting->count || passed != UINT32_MAX);
    return quiet;
}

static bool would_end(const struct waiting *waiting)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < waiting->count; i++)
        ready += satisfied(waiting->objects[i]);
    return waiting->count && ready >= (waiting->all ? waiting->count : 1);
}

/* Whether the object's state can be seen without the lock. */
static bool plain_to_see(const struct np_object *object)
{
    return object->kind == NP_OBJECT_EVENT || object->kind == NP_OBJECT_FILE || object->kind == NP_OBJECT_THREAD ||
           object->kind == NP_OBJECT_PORT;
}

static bool seen_signalled(const struct np_object *object)
{
    if (object->kind == NP_OBJECT_PORT)
        return atomic_load_explicit(&object->first_packet, memory_order_relaxed) ||
               atomic_load_explicit(&object->closed, memory_order_relaxed);
    return atomic_load_explicit(&object->signalled, memory_order_relaxed);
}

/* With the lock: what a spin can look at without it. False: it has to take it each time. An operation that another
 * thread starts meanwhile is not among it, which costs at most the rest of the spin. */
static bool prepare_to_look(struct waiting *waiting)
{
    waiting->snapshots.count = 0;
    bool simple = waiting->count <= NP_MOST_SNAPSHOTS && (!waiting->all || waiting->count == 1);
    for (uint32_t i = 0; simple && i < waiting->count; i++)
        simple = plain_to_see(waiting->objects[i]) && np_async_note(waiting->objects[i], &waiting->snapshots);
    return simple && (!waiting->alertable || np_async_note_thread(np_thread_of_caller, &waiting->snapshots));
}

static bool something_seen(const void *what)
{
    const struct waiting *waiting = what;
    if (atomic_load_explicit(&np_thread_of_caller->word, memory_order_acquire) != waiting->seen)
        return true;
    for (uint32_t i = 0; i < waiting->count; i++)
        if (seen_signalled(waiting->objects[i]))
            return true;
    for (uint32_t i = 0; i < waiting->snapshots.count; i++)
        if (np_snapshot_moved(&waiting->snapshots.items[i]))
            return true;
    return false;
}

static bool something_moved(const void *what)
{
    const struct waiting *waiting = what;
    if (atomic_load_explicit(&np_thread_of_caller->word, memory_order_acquire) != waiting->seen)
        return true;
    struct np_handle *handles[BATCH];
    np_objects_lock();
    uint32_t count = to_drive(waiting, false, handles);
    bool moved = count || would_end(waiting) || (waiting->alertable && np_thread_of_caller->first_apc);
    np_objects_unlock();
    while (count)
        np_free(handles[--count]);
    return moved;
}

static void enlist(struct np_object *object, struct np_wait_block *block)
{
    block->thread = np_thread_of_caller;
    block->previous = NULL;
    block->next = object->waiters;
    if (block->next)
        block->next->previous = block;
    object->waiters = block;
}

static void delist(struct np_object *object, struct np_wait_block *block)
{
    if (block->previous)
        block->previous->next = block->next;
    else
        object->waiters = block->next;
    if (block->next)
        block->next->previous = block->previous;
}

static int64_t next_ring(const struct waiting *waiting, int64_t deadline)
{
    for (uint32_t i = 0; i < waiting->count; i++)
        if (waiting->objects[i]->kind == NP_OBJECT_TIMER && waiting->objects[i]->due < deadline)
            deadline = waiting->objects[i]->due;
    return deadline;
}

/* Sleeps until the thread's word moves or a timer rings. The blocks stand in the lists since before the last look. */
static uint32_t sleep_for(const struct waiting *waiting, const struct np_wait *wait)
{
    np_objects_lock();
    int64_t ring = next_ring(waiting, wait->deadline);
    np_objects_unlock();
    struct np_wait limited = *wait;
    limited.deadline = ring;
    atomic_store_explicit(&np_thread_of_caller->sleeps, true, memory_order_seq_cst);
    uint32_t code = NP_OK;
    if (atomic_load_explicit(&np_thread_of_caller->word, memory_order_seq_cst) == waiting->seen)
        code = np_sleep(&np_thread_of_caller->word, waiting->seen, UINT32_MAX, &limited);
    atomic_store_explicit(&np_thread_of_caller->sleeps, false, memory_order_relaxed);
    return code == NP_SEM_TIMEOUT && ring < wait->deadline ? NP_OK : code;
}

uint32_t np_wait_objects(struct np_object *const *objects, uint32_t count, bool all, bool alertable,
                         const struct np_wait *wait, uint32_t *index, bool *abandoned)
{
    if (!np_thread_self())
        return NP_NOT_ENOUGH_MEMORY;
    struct waiting waiting = {.objects = objects, .count = count, .all = all, .alertable = alertable};
    struct np_wait_block blocks[NP_MOST_OBJECTS];
    bool enlisted = false, spun = false;
    enum np_heed heed = NP_HEED_ASK;
    uint32_t code = NP_OK, result, turns = 0;
    for (bool first = true;; first = false) {
        if (!drive_and_lock(&waiting, first) && code == NP_OK && np_expired(wait))
            code = NP_SEM_TIMEOUT;
        waiting.seen = atomic_load_explicit(&np_thread_of_caller->word, memory_order_acquire);
        if (code == NP_INTERRUPTED && !np_cancelled(wait))
            result = code; /* a signal's handler has raised: nothing is taken, for nobody would learn of it */
        else if (over(&waiting, index, abandoned))
            result = NP_OK;
        else if (alertable && np_thread_of_caller->first_apc)
            result = NP_IO_COMPLETION;
        else if (code != NP_OK)
            result = code;
        else if (wait->deadline == NP_TRY)
            result = NP_SEM_TIMEOUT;
        else
            result = NP_WOULD_WAIT;
        bool spin = result == NP_WOULD_WAIT && !enlisted && !spun;
        /* While this thread spins it looks for itself; who wants to sleep has to be woken, and looks once more behind
         * that. */
        if (result == NP_WOULD_WAIT && !spin && !enlisted) {
            for (uint32_t i = 0; i < count; i++)
                enlist(objects[i], &blocks[i]);
            enlisted = true;
            np_objects_unlock();
            continue;
        }
        bool simple = spin && prepare_to_look(&waiting);
        if (result != NP_WOULD_WAIT && enlisted)
            for (uint32_t i = 0; i < count; i++)
                delist(objects[i], &blocks[i]);
        np_objects_unlock();
        if (result != NP_WOULD_WAIT)
            return result;
        if (spin) {
            spun = !np_spin(&np_thread_of_caller->spin, simple ? something_seen : something_moved, &waiting,
                            wait->deadline);
            /* What the spin has seen moving is moved on here and now. */
            for (uint32_t i = 0; i < waiting.snapshots.count; i++)
                if (np_snapshot_moved(&waiting.snapshots.items[i]))
                    np_async_drive(waiting.snapshots.items[i].handle);
            np_async_forget(&waiting.snapshots);
            if (!spun)
                code = np_restless(&turns, NP_OK, wait);
            continue;
        }
        struct np_wait limited;
        code = np_heed_begin(&heed, wait, &limited);
        if (code == NP_OK && np_cancelled(wait))
            code = NP_INTERRUPTED;
        if (code != NP_OK)
            continue;
        if (arm(&waiting)) {
            code = np_heed_end(&heed, sleep_for(&waiting, &limited), wait, &limited);
        } else {
            heed = NP_HEED_AWAKE;
            code = np_restless(&turns, NP_OK, wait);
        }
    }
}

void np_event_pulse(struct np_object *event)
{
    np_object_settle(event);
    /* Releases those who wait now: they look at the event while it is set, or not at all. As on Windows, nothing to
     * rely on. */
    np_event_set(event);
    np_yield();
    np_event_reset(event);
}

struct np_apc *np_apc_take(void)
{
    if (!np_thread_of_caller)
        return NULL;
    np_objects_lock();
    struct np_apc *apc = np_thread_of_caller->first_apc;
    if (apc) {
        np_thread_of_caller->first_apc = apc->next;
        if (!apc->next)
            np_thread_of_caller->last_apc = NULL;
    }
    np_objects_unlock();
    return apc;
}

uint32_t np_port_take(struct np_object *port, const struct np_wait *wait, struct np_packet **packet)
{
    for (;;) {
        if (atomic_load_explicit(&port->first_packet, memory_order_relaxed)) {
            np_objects_lock();
            struct np_packet *first = atomic_load_explicit(&port->first_packet, memory_order_relaxed);
            if (first) {
                atomic_store_explicit(&port->first_packet, first->next, memory_order_relaxed);
                if (!first->next)
                    port->last_packet = NULL;
            }
            np_objects_unlock();
            if (first) {
                *packet = first;
                return NP_OK;
            }
        }
        uint32_t index;
        bool abandoned;
        if (port->closed)
            return NP_ABANDONED_WAIT;
        uint32_t code = np_wait_objects(&port, 1, false, false, wait, &index, &abandoned);
        if (code != NP_OK)
            return code;
    }
}
