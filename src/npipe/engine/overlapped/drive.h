/* Moving pended operations on: by whoever waits for them, by calls on the same handle, by the native thread. */
#ifndef NPIPE_OVERLAPPED_DRIVE_H
#define NPIPE_OVERLAPPED_DRIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <pthread.h>

#include "ring/rx.h"
#include "handle/handle.h"
#include "handle/step.h"
#include "overlapped/operation.h"

struct np_link;
struct np_object;
struct np_op;
struct np_thread;

/* Moves the operations of a handle on. */
void np_async_drive(struct np_handle *handle);
void np_async_drive_pair(uint64_t token);
/* Releases a lock of the handle (its rx_lock or tx_lock) under which it may have moved its peer. */
static inline void np_unlock_moved(struct np_handle *handle, pthread_mutex_t *lock)
{
    uint64_t pair = np_async_pair(handle->link);
    pthread_mutex_unlock(lock);
    if (pair)
        np_async_drive_pair(pair);
}
/* Note what has to move before the pended reads (rx_lock held), writes (tx_lock held) can go on. */
void np_async_note_reads(struct np_link *link);
void np_async_note_writes(struct np_link *link);
/* In a forked child nothing is armed. */
void np_async_arm_none(void);
/* Drives the pended reads at the head of the queue (rx_lock held), the pended writes (tx_lock held). */
void np_async_drive_reads(struct np_handle *handle, struct np_link *link);
void np_async_drive_writes(struct np_handle *handle, struct np_link *link);
/* With the objects' lock: notes all that is pending for the object, for the thread's routines. False: there is too
 * much. */
bool np_async_note(const struct np_object *object, struct np_snapshots *snapshots);
bool np_async_note_thread(const struct np_thread *thread, struct np_snapshots *snapshots);
void np_async_forget(struct np_snapshots *snapshots);
/* With the objects' lock: handles (at most `most`, each held) whose operations may go on. */
uint32_t np_async_moved(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
uint32_t np_async_moved_by(const struct np_thread *thread, struct np_handle **handles, uint32_t count, uint32_t most);
uint32_t np_async_moved_of_thread(const struct np_thread *thread, struct np_handle **handles, uint32_t count,
                                  uint32_t most);
/* The same for those that wait for a client. */
uint32_t np_async_connecting(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
/* The same for all of them, moved or not. */
uint32_t np_async_pending(const struct np_object *object, struct np_handle **handles, uint32_t count, uint32_t most);
/* Those of the thread's routines, from the so manieth operation on; *passed: where to go on, UINT32_MAX at the end. */
uint32_t np_async_pending_of_thread(const struct np_thread *thread, uint32_t *passed, struct np_handle **handles,
                                    uint32_t count, uint32_t most);
/* Asks the peer to wake the native thread for what is pended. False: it is to be driven again first. */
bool np_async_arm(struct np_handle *handle);
/* The native thread has been woken for the handle. */
void np_async_woken(struct np_handle *handle);
/* The native thread does so in a moment, unless somebody has waited for it by then. */
void np_async_arm_later(struct np_handle *handle);
/* The native thread: a moment has passed since operations were pended. */
void np_async_arm_listed(void);
void np_async_after_fork(struct np_handle *handle);

/* Overlapped reads that stand before this one. */
static inline void np_drive_ahead(struct np_handle *handle, struct np_link *link, const struct np_op *op)
{
    if (link->rx.first && link->rx.first != op && link->rx.first->completed)
        np_async_drive_reads(handle, link);
}

/* A read has left the queue: overlapped ones have their turn, and nothing of the ring tells them of what was put
 * back. */
static inline void np_drive_back(struct np_handle *handle, struct np_link *link)
{
    if (np_rx_has_back(link) && np_in_use(handle, link))
        np_drive_ahead(handle, link, NULL);
}

#endif
