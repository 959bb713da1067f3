#include "objects.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;

void np_objects_lock(void)
{
    pthread_mutex_lock(&objects_lock);
}

void np_objects_unlock(void)
{
    pthread_mutex_unlock(&objects_lock);
}

/* ---- Threads */

static _Thread_local struct np_thread *self;
static struct np_thread *threads;
static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;

void np_wake_thread(struct np_thread *thread)
{
    /* Sequentially consistent, with its twin in sleep_for: either we see that it sleeps, or it sees the word move. */
    atomic_fetch_add_explicit(&thread->word, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&thread->sleeps, memory_order_seq_cst))
        np_futex_wake(&thread->word, UINT32_MAX);
}

/* A thread's end: its pending operations are cancelled (SEMANTICS 10.4), its mutexes abandoned. */
static void thread_ends(void *value)
{
    struct np_thread *thread = value;
    self = NULL;
    np_async_cancel_thread(thread);
    np_objects_lock();
    thread->ended = true;
    if (thread->previous)
        thread->previous->next = thread->next;
    else
        threads = thread->next;
    if (thread->next)
        thread->next->previous = thread->previous;
    while (thread->owned) {
        struct np_object *mutex = thread->owned;
        thread->owned = mutex->next_owned;
        mutex->owner = NULL;
        mutex->count = 0;
        mutex->abandoned = true;
        np_wake_waiters(mutex);
    }
    thread->object.signalled = true;
    np_wake_waiters(&thread->object);
    np_objects_unlock();
    np_thread_unref(thread);
}

static void make_exit_key(void)
{
    pthread_key_create(&exit_key, thread_ends);
}

struct np_thread *np_thread_self(void)
{
    static _Atomic uint64_t next_id = 1;
    if (self)
        return self;
    pthread_once(&exit_key_once, make_exit_key);
    struct np_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    atomic_init(&thread->refs, 1);
    thread->object.kind = NP_OBJECT_THREAD;
    thread->object.manual = true;
    thread->object.due = NP_FOREVER;
    thread->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    if (pthread_setspecific(exit_key, thread) != 0) {
        free(thread);
        return NULL;
    }
    self = thread;
    thread->tid = np_thread_number();
    pthread_mutex_init(&thread->breakable.lock, NULL);
    thread->breakable.cancel = &thread->cancel;
    np_objects_lock();
    thread->next = threads;
    if (threads)
        threads->previous = thread;
    threads = thread;
    np_objects_unlock();
    return thread;
}

struct np_thread *np_thread_find(int64_t tid)
{
    np_objects_lock();
    struct np_thread *thread = threads;
    while (thread && thread->tid != tid)
        thread = thread->next;
    if (thread)
        np_thread_ref(thread);
    np_objects_unlock();
    return thread;
}

/* ---- Calls that can be cancelled (CancelSynchronousIo). Only the thread itself moves `call` and `blocked`. */

static void cancel_call(struct np_thread *thread, uint32_t call)
{
    /* Of two who cancel, one may have looked long ago: he does not take back what the other one has said. Release: the handle's word
     * moves after it. */
    uint32_t last = atomic_load_explicit(&thread->cancel, memory_order_relaxed);
    while ((int32_t)(call - last) > 0 &&
           !atomic_compare_exchange_weak_explicit(&thread->cancel, &last, call, memory_order_release, memory_order_relaxed))
        continue;
    np_wake_thread(thread);
}

/* Odd, and another one than ever before (or 2^31 calls ago). */
static uint32_t next_call(struct np_thread *thread)
{
    return thread->number = (thread->number + 2) | 1;
}

static void publish_call(struct np_thread *thread, uint32_t call)
{
    thread->current.wait->call = call;
    /* Releases, as in a sequence lock: who sees this handle sees that the call before is over, who sees the call sees the handle. */
    atomic_store_explicit(&thread->blocked, thread->current.handle, memory_order_release);
    atomic_store_explicit(&thread->call, call, memory_order_release);
}

/* The call that another one has begun in goes on, under a new number. */
static void go_on(struct np_thread *thread)
{
    struct np_call *call = &thread->current;
    call->cancelled = call->cancelled || np_cancelled(call->wait);
    publish_call(thread, next_call(thread));
    if (call->cancelled)
        cancel_call(thread, call->wait->call);
}

struct np_call np_call_begin(struct np_thread *thread, struct np_handle *handle, struct np_wait *wait)
{
    struct np_call outer = thread->current;
    outer.cancelled = outer.cancelled || (outer.wait && np_cancelled(outer.wait));
    wait->cancel = &thread->cancel;
    thread->current = (struct np_call){.wait = wait, .handle = handle};
    publish_call(thread, next_call(thread));
    return outer;
}

void np_call_end(struct np_thread *thread, const struct np_call *outer)
{
    thread->current = *outer;
    if (outer->wait) {
        go_on(thread);
        return;
    }
    atomic_store_explicit(&thread->call, thread->number + 1, memory_order_release); /* even */
    atomic_store_explicit(&thread->blocked, NULL, memory_order_release);
}

uint32_t np_call_begin_named(struct np_thread *thread, struct np_wait *wait)
{
    if (thread->current.wait)
        thread->current.cancelled = thread->current.cancelled || np_cancelled(thread->current.wait);
    wait->cancel = &thread->cancel;
    wait->call = next_call(thread);
    return np_breakable_begin(&thread->breakable, wait->call);
}

void np_call_end_named(struct np_thread *thread, uint32_t outer)
{
    np_breakable_end(&thread->breakable, outer);
    if (thread->current.wait)
        go_on(thread);
}

/* The call of the thread just now, 0: none, and its handle. */
static uint32_t call_of(const struct np_thread *thread, struct np_handle **handle)
{
    for (;;) {
        uint32_t call = atomic_load_explicit(&thread->call, memory_order_acquire);
        *handle = atomic_load_explicit(&thread->blocked, memory_order_acquire);
        /* Acquires, with their twins in np_call_begin: if the handle is a later call's, the number has moved. */
        if (atomic_load_explicit(&thread->call, memory_order_acquire) == call)
            return call % 2 ? call : 0;
    }
}

bool np_thread_cancel(struct np_thread *thread, struct np_handle **handle)
{
    *handle = NULL;
    if (np_break(&thread->breakable))
        return true;
    uint32_t call = call_of(thread, handle);
    if (!call) {
        *handle = NULL;
        return false;
    }
    cancel_call(thread, call);
    return true;
}

uint32_t np_threads_cancel(const struct np_handle *handle)
{
    uint32_t count = 0;
    np_objects_lock();
    for (struct np_thread *thread = threads; thread; thread = thread->next) {
        struct np_handle *blocked;
        uint32_t call = call_of(thread, &blocked);
        if (!call || blocked != handle)
            continue;
        cancel_call(thread, call);
        count++;
    }
    np_objects_unlock();
    return count;
}

void np_thread_ref(struct np_thread *thread)
{
    atomic_fetch_add_explicit(&thread->refs, 1, memory_order_relaxed);
}

void np_thread_unref(struct np_thread *thread)
{
    if (thread && atomic_fetch_sub_explicit(&thread->refs, 1, memory_order_acq_rel) == 1)
        free(thread);
}

/* ---- Objects */

struct np_object *np_object_new(enum np_object_kind kind, bool manual, bool signalled)
{
    struct np_object *object = calloc(1, sizeof *object);
    if (!object)
        return NULL;
    atomic_init(&object->refs, 1);
    object->kind = kind;
    object->manual = manual;
    object->signalled = signalled;
    object->due = NP_FOREVER;
    return object;
}

void np_object_ref(struct np_object *object)
{
    atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
}

void np_object_unref(struct np_object *object)
{
    if (!object || atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (object->owner) {
        np_objects_lock();
        struct np_object **place = &object->owner->owned;
        while (*place && *place != object)
            place = &(*place)->next_owned;
        if (*place)
            *place = object->next_owned;
        np_objects_unlock();
    }
    free(object);
}

void np_wake_waiters(struct np_object *object)
{
    for (struct np_wait_block *block = object->waiters; block; block = block->next)
        np_wake_thread(block->thread);
}

void np_signal(struct np_object *object)
{
    object->signalled = true;
    np_wake_waiters(object);
}

void np_event_set(struct np_object *event)
{
    np_objects_lock();
    np_signal(event);
    np_objects_unlock();
}

void np_event_reset(struct np_object *event)
{
    np_object_settle(event);
    np_objects_lock();
    event->signalled = false;
    np_objects_unlock();
}

bool np_semaphore_release(struct np_object *semaphore, uint32_t count, uint32_t *previous)
{
    np_objects_lock();
    *previous = semaphore->count;
    bool fits = count > 0 && count <= semaphore->maximum - semaphore->count;
    if (fits) {
        semaphore->count += count;
        np_wake_waiters(semaphore);
    }
    np_objects_unlock();
    return fits;
}

static void disown(struct np_object *mutex)
{
    struct np_object **place = &mutex->owner->owned;
    while (*place != mutex)
        place = &(*place)->next_owned;
    *place = mutex->next_owned;
    mutex->owner = NULL;
}

bool np_mutex_release(struct np_object *mutex)
{
    np_objects_lock();
    bool mine = mutex->owner && mutex->owner == self;
    if (mine && --mutex->count == 0) {
        disown(mutex);
        np_wake_waiters(mutex);
    }
    np_objects_unlock();
    return mine;
}

void np_timer_set(struct np_object *timer, int64_t due, int64_t period)
{
    np_objects_lock();
    timer->signalled = false;
    timer->due = due;
    timer->period = period;
    np_wake_waiters(timer); /* they have to sleep for another time now */
    np_objects_unlock();
}

void np_timer_cancel(struct np_object *timer)
{
    np_objects_lock();
    timer->due = NP_FOREVER;
    timer->period = 0;
    np_objects_unlock();
}

/* ---- Waiting, with the lock held */

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
        return !object->owner || object->owner == self;
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
            object->owner = self;
            object->next_owned = self->owned;
            self->owned = object;
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
    struct np_glances glances;
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
        count = np_async_moved_of_thread(self, handles, count, BATCH);
    return count;
}

/* Moves on what the objects and, in an alertable wait, the thread wait for. Takes the lock, and holds it when nothing is left to
 * move. */
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
        for (struct np_thread *thread = threads; thread && count < BATCH; thread = thread->next)
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
    /* Relaxed: what this thread has started is counted; a start of another thread's at the same time is before this or after. */
    if (atomic_load_explicit(&object->pending, memory_order_relaxed) == 0)
        return;
    struct np_object *const objects[] = {object};
    const struct waiting waiting = {.objects = objects, .count = 1};
    drive_and_lock(&waiting, true);
    np_objects_unlock();
}

/* Asks the peers to wake the native thread, which wakes this one. False: something has moved meanwhile. */
static bool arm(const struct waiting *waiting)
{
    struct np_handle *handles[NP_MOST_OBJECTS];
    uint32_t count = 0;
    bool quiet = true;
    np_objects_lock();
    for (uint32_t i = 0; i < waiting->count && count < NP_MOST_OBJECTS; i++)
        count = np_async_pending(waiting->objects[i], handles, count, NP_MOST_OBJECTS);
    if (waiting->alertable && count < NP_MOST_OBJECTS)
        count = np_async_pending_of_thread(self, handles, count, NP_MOST_OBJECTS);
    np_objects_unlock();
    for (uint32_t i = 0; i < count; i++) {
        quiet = np_async_arm(handles[i]) && quiet;
        np_free(handles[i]);
    }
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

/* With the lock: what a spin can look at without it. False: it has to take it each time. An operation that another thread starts
 * meanwhile is not among it, which costs at most the rest of the spin. */
static bool prepare_to_look(struct waiting *waiting)
{
    waiting->glances.count = 0;
    bool simple = waiting->count <= NP_MOST_GLANCES && (!waiting->all || waiting->count == 1);
    for (uint32_t i = 0; simple && i < waiting->count; i++)
        simple = plain_to_see(waiting->objects[i]) && np_async_note(waiting->objects[i], &waiting->glances);
    return simple && (!waiting->alertable || np_async_note_thread(self, &waiting->glances));
}

static bool something_seen(const void *what)
{
    const struct waiting *waiting = what;
    if (atomic_load_explicit(&self->word, memory_order_acquire) != waiting->seen)
        return true;
    for (uint32_t i = 0; i < waiting->count; i++)
        if (seen_signalled(waiting->objects[i]))
            return true;
    for (uint32_t i = 0; i < waiting->glances.count; i++)
        if (np_glance_moved(&waiting->glances.items[i]))
            return true;
    return false;
}

static bool something_moved(const void *what)
{
    const struct waiting *waiting = what;
    if (atomic_load_explicit(&self->word, memory_order_acquire) != waiting->seen)
        return true;
    struct np_handle *handles[BATCH];
    np_objects_lock();
    uint32_t count = to_drive(waiting, false, handles);
    bool moved = count || would_end(waiting) || (waiting->alertable && self->first_apc);
    np_objects_unlock();
    while (count)
        np_free(handles[--count]);
    return moved;
}

static void enlist(struct np_object *object, struct np_wait_block *block)
{
    block->thread = self;
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
    atomic_store_explicit(&self->sleeps, true, memory_order_seq_cst);
    uint32_t code = NP_OK;
    if (atomic_load_explicit(&self->word, memory_order_seq_cst) == waiting->seen)
        code = np_sleep(&self->word, waiting->seen, UINT32_MAX, &limited);
    atomic_store_explicit(&self->sleeps, false, memory_order_relaxed);
    return code == NP_SEM_TIMEOUT && ring < wait->deadline ? NP_OK : code;
}

uint32_t np_wait_objects(struct np_object *const *objects, uint32_t count, bool all, bool alertable, const struct np_wait *wait,
                         uint32_t *index, bool *abandoned)
{
    if (!np_thread_self())
        return NP_NOT_ENOUGH_MEMORY;
    struct waiting waiting = {.objects = objects, .count = count, .all = all, .alertable = alertable};
    struct np_wait_block blocks[NP_MOST_OBJECTS];
    bool enlisted = false, spun = false, asked = false;
    uint32_t code = NP_OK, result, turns = 0;
    for (bool first = true;; first = false) {
        if (!drive_and_lock(&waiting, first) && code == NP_OK && np_expired(wait))
            code = NP_SEM_TIMEOUT;
        waiting.seen = atomic_load_explicit(&self->word, memory_order_acquire);
        if (over(&waiting, index, abandoned))
            result = NP_OK;
        else if (alertable && self->first_apc)
            result = NP_IO_COMPLETION;
        else if (code != NP_OK)
            result = code;
        else if (wait->deadline == NP_TRY)
            result = NP_SEM_TIMEOUT;
        else
            result = NP_WOULD_WAIT;
        bool spin = result == NP_WOULD_WAIT && !enlisted && !spun;
        /* While this thread spins it looks for itself; who wants to sleep has to be woken, and looks once more behind that. */
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
            spun = !np_spin(&self->spin, simple ? something_seen : something_moved, &waiting, wait->deadline);
            /* What the spin has seen moving is moved on here and now. */
            for (uint32_t i = 0; i < waiting.glances.count; i++)
                if (np_glance_moved(&waiting.glances.items[i]))
                    np_async_drive(waiting.glances.items[i].handle);
            np_async_forget(&waiting.glances);
            if (!spun)
                code = np_restless(&turns, NP_OK, wait);
            continue;
        }
        if (!asked) {
            asked = true; /* a signal that came while we were spinning has no other way to be heard */
            if (wait->interrupted && wait->interrupted(wait->context)) {
                code = NP_INTERRUPTED;
                continue;
            }
        }
        if (np_cancelled(wait))
            code = NP_INTERRUPTED;
        else if (arm(&waiting))
            code = sleep_for(&waiting, wait);
        else
            code = np_restless(&turns, NP_OK, wait);
    }
}

void np_event_pulse(struct np_object *event)
{
    np_object_settle(event);
    /* Releases those who wait now: they look at the event while it is set, or not at all. As on Windows, nothing to rely on. */
    np_event_set(event);
    np_yield();
    np_event_reset(event);
}

/* ---- Routines */

static void append_apc(struct np_thread *thread, struct np_apc *apc)
{
    apc->next = NULL;
    if (thread->last_apc)
        thread->last_apc->next = apc;
    else
        thread->first_apc = apc;
    thread->last_apc = apc;
    np_wake_thread(thread);
}

bool np_apc_queue(struct np_thread *thread, void *context, uint64_t value)
{
    struct np_apc *apc = calloc(1, sizeof *apc);
    if (!apc)
        return false;
    apc->context = context;
    apc->value = value;
    np_objects_lock();
    bool lives = !thread->ended;
    if (lives)
        append_apc(thread, apc);
    np_objects_unlock();
    if (!lives)
        free(apc);
    return lives;
}

struct np_apc *np_apc_take(void)
{
    if (!self)
        return NULL;
    np_objects_lock();
    struct np_apc *apc = self->first_apc;
    if (apc) {
        self->first_apc = apc->next;
        if (!apc->next)
            self->last_apc = NULL;
    }
    np_objects_unlock();
    return apc;
}

/* ---- Ports */

static void append_packet(struct np_object *port, struct np_packet *packet)
{
    packet->next = NULL;
    if (port->last_packet)
        port->last_packet->next = packet;
    else
        atomic_store_explicit(&port->first_packet, packet, memory_order_relaxed); /* who sees it still needs the lock to take it */
    port->last_packet = packet;
    np_wake_waiters(port);
}

bool np_port_post(struct np_object *port, uint32_t count, uint64_t key, void *posted)
{
    struct np_packet *packet = calloc(1, sizeof *packet);
    if (!packet)
        return false;
    packet->count = count;
    packet->key = key;
    packet->posted = posted;
    np_objects_lock();
    append_packet(port, packet);
    np_objects_unlock();
    return true;
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

void np_port_close(struct np_object *port)
{
    np_objects_lock();
    port->closed = true;
    np_wake_waiters(port);
    np_objects_unlock();
}

/* ---- What an operation's completion does to them */

void np_tell(struct np_async *async)
{
    if (async->apc) {
        async->own_apc.async = async;
        append_apc(async->thread, &async->own_apc);
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
        append_packet(async->port, &async->own_packet);
    }
}

void np_objects_after_fork(void)
{
    pthread_mutex_init(&objects_lock, NULL);
    /* The others are the parent's. */
    threads = self;
    if (self) {
        self->next = self->previous = NULL;
        self->tid = np_thread_number();
        pthread_mutex_init(&self->breakable.lock, NULL);
    }
}
