/* Objects that can be waited for (events, mutexes, timers, ports, threads) and what a thread has: its queued routines,
 * its blocking call. */
#ifndef NPIPE_HANDLE_OBJECTS_H
#define NPIPE_HANDLE_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>

#include "base/wait.h"

struct np_async;
struct np_handle;

enum np_object_kind {
    NP_OBJECT_EVENT = 1,
    NP_OBJECT_SEMAPHORE,
    NP_OBJECT_MUTEX,
    NP_OBJECT_TIMER,
    NP_OBJECT_FILE, /* of a pipe's handle */
    NP_OBJECT_PORT,
    NP_OBJECT_THREAD, /* signalled when it has ended */
};

/* One thread waiting for one object. */
struct np_wait_block {
    struct np_wait_block *next, *previous;
    struct np_thread *thread;
};

/* What comes out of a port. */
struct np_packet {
    struct np_packet *next;
    uint32_t count;
    uint64_t key;
    void *posted;           /* of a packet that the program has posted: its own reference */
    struct np_async *async; /* of a completed operation, or NULL */
};

struct np_object {
    _Atomic uint32_t refs;
    enum np_object_kind kind;
    bool manual;               /* stays signalled until it is reset */
    _Atomic bool signalled;    /* event, timer, file, thread; set under the lock */
    uint32_t count, maximum;   /* a semaphore's; of a mutex how often its owner has it */
    struct np_thread *owner;   /* of a mutex */
    struct np_object *next_owned;
    bool abandoned;
    _Atomic bool closed; /* a port whose last handle has gone */
    int64_t due, period; /* of a timer, ns */
    struct np_wait_block *waiters;
    struct np_async *asyncs; /* pending operations that will signal it, or queue a packet to it */
    _Atomic uint32_t pending; /* how many of them will signal it; changed under the lock */
    struct np_packet *_Atomic first_packet; /* changed under the lock */
    struct np_packet *last_packet;
};

/* A routine to be run by a thread in an alertable wait. */
struct np_apc {
    struct np_apc *next;
    struct np_async *async; /* completed, or NULL: the program's own */
    void *context;          /* the program's own reference */
    uint64_t value;
};

/* A call that can be cancelled; wait NULL: none. */
struct np_call {
    struct np_wait *wait;
    struct np_handle *handle;
    bool cancelled; /* before another one began in it */
};

struct np_thread {
    struct np_thread *next, *previous; /* all that live */
    int64_t tid;                       /* the kernel's */
    _Atomic uint32_t refs;
    _Atomic uint32_t word; /* futex: moves when something that it waits for may have happened */
    _Atomic bool sleeps;   /* on it */
    uint64_t id;
    struct np_object object;
    struct np_apc *first_apc, *last_apc;
    struct np_async *asyncs; /* pending operations that it has issued */
    struct np_object *owned; /* mutexes */
    struct np_spin spin;
    bool ended;
    /* CancelSynchronousIo: the thread's calls that can be cancelled are numbered, and a cancel names the one that it
     * has found. */
    _Atomic uint32_t call;             /* odd: that call is under way; even: none is */
    _Atomic uint32_t cancel;           /* np_wait's: the last one that was cancelled */
    struct np_handle *_Atomic blocked; /* whose call it is */
    struct np_call current;            /* this and the next are for the thread itself: the same call, */
    uint32_t number;                   /* and the number that was given last */
    struct np_breakable breakable;     /* ... or WaitNamedPipe */
};

/* The calling thread's; NULL: no memory. */
struct np_thread *np_thread_self(void);
/* The living thread with that number, with a reference; NULL: there is none that has used anything here. */
struct np_thread *np_thread_find(int64_t tid);
/* The calling thread begins a call on `handle` that may block, with `wait`, which can be cancelled from here on; and
 * ends it. What it was in before (a signal's handler makes calls too) goes on then, and is handed from the one to the
 * other. */
struct np_call np_call_begin(struct np_thread *thread, struct np_handle *handle, struct np_wait *wait);
void np_call_end(struct np_thread *thread, const struct np_call *outer);
/* The same for a WaitNamedPipe; the number of the one that it was in before, or 0. */
uint32_t np_call_begin_named(struct np_thread *thread, struct np_wait *wait);
void np_call_end_named(struct np_thread *thread, uint32_t outer);
/* CancelSynchronousIo: cancels the call that the thread is in. False: it is in none. If `*handle` is not NULL,
 * np_handle_cancel_blocked is to follow; the caller sees to it that a thread in a call cannot free its handle
 * meanwhile. A call that is over by then is not cancelled, nor is the one after it. */
bool np_thread_cancel(struct np_thread *thread, struct np_handle **handle);
/* CancelIoEx(h, NULL): tells those that are blocked in a call on the handle. Their number; np_handle_cancel_blocked
 * follows. */
uint32_t np_threads_cancel(const struct np_handle *handle);
void np_thread_ref(struct np_thread *thread);
void np_thread_unref(struct np_thread *thread);

struct np_object *np_object_new(enum np_object_kind kind, bool manual, bool signalled);
void np_object_ref(struct np_object *object);
void np_object_unref(struct np_object *object);

void np_event_set(struct np_object *event);
/* False: it would go beyond its maximum. */
bool np_semaphore_release(struct np_object *semaphore, uint32_t count, uint32_t *previous);
/* False: the calling thread is not its owner. */
bool np_mutex_release(struct np_object *mutex);
void np_timer_set(struct np_object *timer, int64_t due, int64_t period);
void np_timer_cancel(struct np_object *timer);

/* Whether a wait for it may well be over at once: a guess, which takes nothing. */
static inline bool np_object_looks_signalled(const struct np_object *object)
{
    return atomic_load_explicit(&object->signalled, memory_order_relaxed);
}

/* QueueUserAPC. False: no memory, or the thread has ended. */
bool np_apc_queue(struct np_thread *thread, void *context, uint64_t value);

/* PostQueuedCompletionStatus. */
bool np_port_post(struct np_object *port, uint32_t count, uint64_t key, void *posted);
/* Ends all waits for packets. */
void np_port_close(struct np_object *port);

void np_objects_lock(void);
void np_objects_unlock(void);
/* With the lock. */
void np_signal(struct np_object *object);
void np_wake_thread(struct np_thread *thread);
void np_wake_waiters(struct np_object *object);
void np_objects_after_fork(void);

/* What a layer above has to do at a thread's end, in that thread and without a lock: set once, before there are
 * threads. */
extern void (*np_thread_ending)(struct np_thread *thread);
/* The calling thread's if it has one. */
extern _Thread_local struct np_thread *np_thread_of_caller;

/* All that live, guarded by the lock. */
extern struct np_thread *np_threads;

/* With the lock: queues the routine to the thread, and wakes it. */
void np_apc_append(struct np_thread *thread, struct np_apc *apc);

/* With the lock: queues the packet to the port, and wakes one that waits for it. */
void np_packet_append(struct np_object *port, struct np_packet *packet);

#endif
