#include "handle/objects.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/platform.h"
#include "base/wait.h"
#include "handle/handle.h"

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

_Thread_local struct np_thread *np_thread_of_caller;
struct np_thread *np_threads;
static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;

void np_wake_thread(struct np_thread *thread)
{
    /* Sequentially consistent, with its twin in sleep_for: either we see that it sleeps, or it sees the word move. */
    atomic_fetch_add_explicit(&thread->word, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&thread->sleeps, memory_order_seq_cst))
        np_futex_wake(&thread->word, UINT32_MAX);
}

void (*np_thread_ending)(struct np_thread *thread);

/* A thread's end: its pending operations are cancelled (SEMANTICS 10.4), its mutexes abandoned. */
static void thread_ends(void *value)
{
    struct np_thread *thread = value;
    np_thread_of_caller = NULL;
    if (np_thread_ending)
        np_thread_ending(thread);
    np_objects_lock();
    thread->ended = true;
    if (thread->previous)
        thread->previous->next = thread->next;
    else
        np_threads = thread->next;
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
    if (np_thread_of_caller)
        return np_thread_of_caller;
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
    np_thread_of_caller = thread;
    thread->tid = np_thread_number();
    pthread_mutex_init(&thread->breakable.lock, NULL);
    thread->breakable.cancel = &thread->cancel;
    np_objects_lock();
    thread->next = np_threads;
    if (np_threads)
        np_threads->previous = thread;
    np_threads = thread;
    np_objects_unlock();
    return thread;
}

struct np_thread *np_thread_find(int64_t tid)
{
    np_objects_lock();
    struct np_thread *thread = np_threads;
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
    /* Of two who cancel, one may have looked long ago: it does not take back what the other one has said. Release: the
     * handle's word moves after it. */
    uint32_t last = atomic_load_explicit(&thread->cancel, memory_order_relaxed);
    while ((int32_t)(call - last) > 0 && !atomic_compare_exchange_weak_explicit(
                                             &thread->cancel, &last, call, memory_order_release, memory_order_relaxed))
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
    /* Releases, as in a sequence lock: who sees this handle sees that the call before is over, who sees the call sees
     * the handle. */
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
        /* Acquires, with their twin in np_call_begin: if the handle is a later call's, the number has moved. */
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
    for (struct np_thread *thread = np_threads; thread; thread = thread->next) {
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
    bool mine = mutex->owner && mutex->owner == np_thread_of_caller;
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

/* ---- Routines */

void np_apc_append(struct np_thread *thread, struct np_apc *apc)
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
        np_apc_append(thread, apc);
    np_objects_unlock();
    if (!lives)
        free(apc);
    return lives;
}

/* ---- Ports */

void np_packet_append(struct np_object *port, struct np_packet *packet)
{
    packet->next = NULL;
    if (port->last_packet)
        port->last_packet->next = packet;
    else
        /* who sees it still needs the lock to take it */
        atomic_store_explicit(&port->first_packet, packet, memory_order_relaxed);
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
    np_packet_append(port, packet);
    np_objects_unlock();
    return true;
}

void np_port_close(struct np_object *port)
{
    np_objects_lock();
    port->closed = true;
    np_wake_waiters(port);
    np_objects_unlock();
}

/* ---- What an operation's completion does to them */

void np_objects_after_fork(void)
{
    pthread_mutex_init(&objects_lock, NULL);
    /* The others are the parent's. */
    np_threads = np_thread_of_caller;
    if (np_thread_of_caller) {
        np_thread_of_caller->next = np_thread_of_caller->previous = NULL;
        np_thread_of_caller->tid = np_thread_number();
        pthread_mutex_init(&np_thread_of_caller->breakable.lock, NULL);
    }
}
