/* Reads that wait: bytes, whole messages, a peek. */
#ifndef NPIPE_BLOCKING_READ_H
#define NPIPE_BLOCKING_READ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ring/op.h"
#include "handle/message.h"

struct np_handle;
struct np_link;
struct np_wait;

/* ReadFile: NP_OK or NP_MORE_DATA with *count, or why not. */
uint32_t np_read(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, const struct np_wait *wait);
/* To be called before the first of the reads whose bytes np_put_back may bring back: threads that wait to read from
 * then on can be woken by it. */
void np_will_put_back(struct np_handle *handle);
/* Bytes that byte-mode reads have returned and that could not be delivered further: the next reads return them
 * again. */
uint32_t np_put_back(struct np_handle *handle, const void *data, uint32_t size);
/* PeekNamedPipe (SEMANTICS 7). */
uint32_t np_peek(struct np_handle *handle, void *buffer, uint32_t size, uint32_t *count, uint32_t *available,
                 uint32_t *left);
/* Finds out now whether the peer has gone, of which the native thread tells a moment after it. */
void np_look(struct np_handle *handle);
/* Whether there is something to read, be it an empty message, of which a peek does not tell. */
bool np_has_unread(struct np_handle *handle);
/* Spins for something to read, as long as that has been worth it lately. Whether a try may succeed now; `idle`: the
 * pipe was well and empty before, so what comes now belongs to the caller's read. */
bool np_spin_read(struct np_handle *handle, int64_t deadline, bool *idle);

/* A whole message at a time. np_recv_try: NP_OK and *size, and then exactly one of take and leave; the lock is
 * held in between. Otherwise the code, and nothing is held. */
uint32_t np_recv_try(struct np_handle *handle, uint32_t limit, uint32_t *size);
void np_recv_take(struct np_handle *handle, void *buffer, uint32_t size);
/* The same into several buffers, which have room for `size` bytes together: what there is of the message, or so much of
 * it, and then the rest stays. Returns the number. */
uint32_t np_recv_take_parts(struct np_handle *handle, const struct iovec *parts, uint32_t size);
void np_recv_leave(struct np_handle *handle);
/* The same when it takes time: waits for a message, then keeps other readers out until np_recv_end. */
struct np_recv {
    struct np_op op;
    struct np_link *link;
    bool pended; /* as in np_message */
    bool reply; /* set by the caller: it waits also on a NOWAIT handle (SEMANTICS 8.2) */
    bool again; /* it has begun before, with a message that was taken back */
    uint32_t turns;   /* in which it was woken */
    int64_t patience; /* for the rest of a message, until then, whatever the time-out; 0: none has begun */
    struct np_message message;
};
/* A new call: all of its np_recv_begin, np_recv_more and np_recv_end are for one time-out. */
static inline void np_recv_prepare(struct np_recv *recv, bool reply)
{
    *recv = (struct np_recv){.reply = reply, .pended = reply};
}
uint32_t np_recv_begin(struct np_handle *handle, struct np_recv *recv, uint32_t *size, const struct np_wait *wait);
/* The caller copies into several buffers, which np_recv_end is to look into instead of its `buffer`. */
static inline void np_recv_into_parts(struct np_recv *recv, const struct iovec *parts)
{
    recv->op.parts = (struct np_parts){.part = parts};
}
/* Copies bytes [op.count, upto) of it into buffer + op.count. NP_RETRY: the message was withdrawn; np_recv_end, and
 * begin again with the same `recv`, which looks at the clock and for signals then. */
uint32_t np_recv_more(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto,
                      const struct np_wait *wait);
/* The same without any wait: NP_WOULD_WAIT if a part is still to come, for np_recv_more. */
uint32_t np_recv_more_now(struct np_handle *handle, struct np_recv *recv, void *buffer, uint32_t upto);
/* Consumes the message, or puts it back. */
uint32_t np_recv_end(struct np_handle *handle, struct np_recv *recv, void *buffer, bool consume);

#endif
