/* Overlapped operations: what a call starts and something else finishes.
 *
 * An operation that cannot finish at once is pended in its link's queue, behind those before it. It is driven by whoever waits
 * for it, by any later call on its handle, and otherwise by the native thread: the peer is asked for a byte through the socket
 * when a thread goes to sleep for it, or when nobody has waited for a moment. */
#ifndef NPIPE_ASYNC_H
#define NPIPE_ASYNC_H

#include "handle.h"
#include "objects.h"
#include "rx.h"

enum np_async_kind { NP_ASYNC_READ = 1, NP_ASYNC_WRITE, NP_ASYNC_CONNECT, NP_ASYNC_TRANSACT };

struct np_async_links {
    struct np_async *next, *previous;
};

struct np_async {
    struct np_op op; /* first: the queues hold it */
    _Atomic uint32_t refs;
    enum np_async_kind kind;
    struct np_handle *handle; /* held */
    struct np_link *link;     /* held while it is pended in a queue of it */
    struct np_thread *thread; /* held: who has issued it */
    uint64_t ended; /* when it was told, by np_async_clock: for an OVERLAPPED that several operations share */
    bool message_mode;
    /* How its completion is told. */
    struct np_object *event; /* held, or NULL: then `file` */
    struct np_object *file;  /* held */
    struct np_object *port;  /* held, or NULL */
    uint64_t key;
    bool apc, no_packet;
    struct np_apc own_apc;
    struct np_packet own_packet;
    /* The result. Code NP_IO_PENDING: not yet. Stored last, with release. */
    _Atomic uint32_t code;
    uint32_t count;
    void *owner; /* the program's reference, to be given back after the completion */
    struct np_async *next_finished;
    /* Lists, guarded by the objects' lock. */
    struct np_async_links of_object, of_port, of_thread, of_handle, of_twins;
    struct np_async *next_connect; /* of its handle, guarded by the process lock */
    uint64_t twins; /* the link's token if this process has both its ends, or 0 */
    bool listed, cancelling;
    bool by_start; /* completed by its start, which is the only one who knows of it */
    /* What has to move before there is anything to do. */
    _Atomic uint64_t seen_tail, seen_consumed, seen_taken;
    _Atomic uint32_t seen_rewinds;
};

struct np_async *np_async_new(void);
void np_async_ref(struct np_async *async);
void np_async_unref(struct np_async *async);
/* Whether it is over and nobody but the caller has it. */
bool np_async_reusable(const struct np_async *async);

/* How an operation's completion is told; references are taken. */
struct np_telling {
    struct np_object *event, *file, *port;
    uint64_t key;
    bool no_packet; /* hEvent | 1 */
    bool apc;       /* a completion routine of the calling thread: neither event nor packet */
    void *owner;
};
/* The handle's operations queue packets to the port from now on, those under way too (SEMANTICS 10.6). */
void np_async_bind(struct np_handle *handle, struct np_object *port, uint64_t key);
/* Makes a fresh or finished operation ready for use: the event and the handle's own signal are reset. */
void np_async_prepare(struct np_async *async, struct np_handle *handle, enum np_async_kind kind, const struct np_telling *telling);

/* Start: NP_OK or NP_MORE_DATA (done at once, and told; by_start: to nobody who would give the owner's reference back), NP_IO_PENDING, or the error (nothing is told). The buffers belong to the
 * operation until it is told. */
uint32_t np_async_read(struct np_async *async, void *buffer, uint32_t size);
uint32_t np_async_write(struct np_async *async, const void *data, uint32_t size);
uint32_t np_async_transact(struct np_async *async, const void *data, uint32_t size, void *reply, uint32_t reply_size);
uint32_t np_async_connect(struct np_async *async);

/* Whether a read is pending though its entry has begun to arrive: what was written counts as there as a whole (SEMANTICS 0.3), and
 * the writer's process is just bringing it. Then a moment's wait for that; what the start returns after it. */
bool np_async_lacks_rest(struct np_async *async);
uint32_t np_async_await_rest(struct np_async *async);

static inline uint32_t np_async_code(const struct np_async *async)
{
    return atomic_load_explicit(&async->code, memory_order_acquire);
}

/* Moves the operations of a handle on. */
void np_async_drive(struct np_handle *handle);
/* Where both ends of a link are in this process, whoever moves one drives what is pended on the other at once: packets, routines and
 * events come in the order of the calls that caused them, not in that in which a waiter finds them. (Those of another process come in
 * the order in which this one finds them.) What np_async_drive_twins is to be given once the locks are released; 0: nothing. */
extern _Atomic uint32_t np_async_local; /* how many operations are pended on such links */
uint64_t np_async_twins_of(const struct np_link *link);
static inline uint64_t np_async_twins(const struct np_link *link)
{
    /* Relaxed: for a caller for whom the start came before this call it is counted. */
    return atomic_load_explicit(&np_async_local, memory_order_relaxed) && link ? np_async_twins_of(link) : 0;
}
void np_async_drive_twins(uint64_t token);
/* Releases a lock of the handle (its rx_lock or tx_lock) under which it may have moved its peer. */
static inline void np_unlock_moved(struct np_handle *handle, pthread_mutex_t *lock)
{
    uint64_t twins = np_async_twins(handle->link);
    pthread_mutex_unlock(lock);
    if (twins)
        np_async_drive_twins(twins);
}
/* How many operations have been told so far. */
uint64_t np_async_clock(void);
/* CancelIoEx: false if it is over already. */
bool np_async_cancel(struct np_async *async);
/* CancelIo (thread: the calling one's only), CancelIoEx(h, NULL) (thread NULL): the number of operations. */
uint32_t np_async_cancel_all(struct np_handle *handle, const struct np_thread *thread);

/* Operations that are told, and whose owners' references are to be given back: one, or NULL. */
struct np_async *np_async_reap(void);
bool np_async_any_finished(void);

/* ---- For the rest of the engine. */

void np_async_complete(struct np_async *async, uint32_t code, uint32_t count);
static inline struct np_async *np_async_of(struct np_op *op)
{
    return (struct np_async *)op;
}
/* op->completed of a pended operation. */
void np_async_completed(struct np_op *op);
/* Note what has to move before the pended reads (rx_lock held), writes (tx_lock held) can go on; whether it has. */
void np_async_note_reads(struct np_link *link);
void np_async_note_writes(struct np_link *link);
bool np_async_has_moved(const struct np_async *async);
/* In a forked child nothing is armed. */
void np_async_arm_none(void);
/* Drives the pended reads at the head of the queue (rx_lock held), the pended writes (tx_lock held). */
void np_async_drive_reads(struct np_handle *handle, struct np_link *link);
void np_async_drive_writes(struct np_handle *handle, struct np_link *link);
/* The link ends on this side (both locks held): what is pended on it is over. */
void np_async_end(struct np_link *link, uint32_t code);
/* The instance has left the listening state (process lock held). */
void np_async_end_connects(struct np_handle *handle);
/* Ends the one that began first with NP_NO_SYSTEM_RESOURCES. False: none is pending. With the process lock held. */
bool np_async_fail_connect(struct np_handle *handle);
/* The thread has ended. */
void np_async_cancel_thread(struct np_thread *thread);
/* What has to move before a pending operation can go on, for a thread that looks at it again and again without any lock. */
struct np_glance {
    struct np_handle *handle; /* held */
    struct np_link *link;     /* held */
    const uint8_t *next;  /* where the next entry will begin */
    bool write;
    uint64_t tail, consumed, taken; /* a write's: the head in place of the tail */
    uint32_t rewinds;
};
#define NP_MOST_GLANCES 4
struct np_glances {
    uint32_t count;
    struct np_glance items[NP_MOST_GLANCES];
};
/* With the objects' lock: notes all that is pending for the object, for the thread's routines. False: there is too much. */
bool np_async_note(const struct np_object *object, struct np_glances *glances);
bool np_async_note_thread(const struct np_thread *thread, struct np_glances *glances);
void np_async_forget(struct np_glances *glances);

static inline bool np_glance_moved(const struct np_glance *glance)
{
    const struct np_link *link = glance->link;
    if (!np_link_quiet(link))
        return true;
    if (glance->write) {
        const struct npl_consumer *consumer = &link->tx.shared->consumer;
        return atomic_load_explicit(&consumer->head, memory_order_acquire) != glance->tail ||
               atomic_load_explicit(&consumer->consumed, memory_order_acquire) != glance->consumed ||
               atomic_load_explicit(&consumer->taken, memory_order_acquire) != glance->taken;
    }
    if (glance->next)
        np_rx_fetch(glance->next);
    return np_rx_moved_since(link, glance->tail, glance->rewinds);
}

/* Adds the operation's handle to `handles`, held, if it is not among them. The new count. */
uint32_t np_async_add_handle(const struct np_async *async, struct np_handle **handles, uint32_t count);
/* The same as the next three for what is pended on a link of this process; takes the objects' lock. */
uint32_t np_async_moved_twins(uint64_t token, struct np_handle **handles, uint32_t most);
/* With the objects' lock: handles (at most `most`, each held) whose operations may go on. */
uint32_t np_async_moved(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
uint32_t np_async_moved_by(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most);
uint32_t np_async_moved_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most);
/* The same for those that wait for a client. */
uint32_t np_async_connecting(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
/* The same for all of them, moved or not. */
uint32_t np_async_pending(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
uint32_t np_async_pending_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most);
/* Asks the peer to wake the native thread for what is pended. False: it is to be driven again first. */
bool np_async_arm(struct np_handle *handle);
/* The native thread has been woken for the handle. */
void np_async_tend(struct np_handle *handle);
/* The native thread does so in a moment, unless somebody has waited for it by then. */
void np_async_arm_later(struct np_handle *handle);
void np_async_add_connect(struct np_async *async);
bool np_async_cancel_connect(struct np_async *async);
/* The native thread: a moment has passed since operations were pended. */
void np_async_arm_listed(void);
void np_async_after_fork(struct np_handle *handle);

#endif
