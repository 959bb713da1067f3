/* Reading in an event loop or a selector, in steps that never wait.
 *
 * The socket of the link is the wake descriptor: a step that finds nothing asks the peer for a byte. One thread of this
 * process at a time uses a handle in this way (this header and poll/write.h), and no thread waits on it otherwise. */
#ifndef NPIPE_POLL_READ_H
#define NPIPE_POLL_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/op.h"
#include "handle/message.h"

struct np_handle;
struct np_link;

/* A descriptor of the caller's that is readable when a read would not wait. It is armed anew by
 * np_rearm after each read. */
uint32_t np_poll_socket(struct np_handle *handle, int *socket);
/* Nobody waits for that descriptor any more: the end may go to another process. */
void np_poll_end(struct np_handle *handle);
/* Says that the peer shall send a byte when something comes. NP_OK: armed, nothing is there. NP_MORE_DATA: a read
 * would not wait now. */
uint32_t np_arm_read(struct np_handle *handle);

/* Whether the connection has ended: then there is nothing more to be woken for. Takes the byte that woke the loop,
 * moves the pending writes on, and asks for the next byte where one is needed. */
bool np_poll_wake(struct np_handle *handle);

/* From now on the caller says when it pauses after reads that left something: until then a writer who waits for room
 * may wait a little longer, so that it is not woken for each message. */
void np_poll_promise_pauses(struct np_handle *handle);
void np_poll_pause(struct np_handle *handle);
/* Whether such a wake waits for the pause. */
bool np_poll_wake_deferred(struct np_handle *handle);
/* np_recv_take, and the same. */
bool np_poll_recv_take(struct np_handle *handle, void *buffer, uint32_t size);

/* Moves the pending writes on and, if any are left, asks for a byte when there is room for more. With tx_lock held. */
void np_poll_pump(struct np_link *link);

/* A read that is pending. It counts as room for the peer (SEMANTICS 6.1) until it is left. */
struct np_poll_read {
    struct np_op op;
    struct np_link *link; /* held; NULL: not begun */
    bool message_mode;
    bool found; /* a message, which may have been taken back since */
    /* A step for an event loop is bounded, however the peer moves: */
    uint32_t turns, bytes; /* of this one: how often it has looked again, and what it has copied */
    uint32_t seen;         /* op.count then */
    uint32_t futile;       /* turns in a row that gave nothing, since the peer last let this end wait */
    struct np_message message;
};
/* `buffer` NULL: for a whole message. */
uint32_t np_poll_read_begin(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t size);
/* The caller copies a whole message into several buffers, which np_poll_read_leave is to look into instead. */
static inline void np_poll_read_into_parts(struct np_poll_read *read, const struct iovec *parts)
{
    read->op.parts = (struct np_parts){.part = parts};
}
/* Into the buffer: NP_OK and NP_MORE_DATA with op.count; NP_WOULD_WAIT: the socket will say when to come again;
 * NP_YIELD: come again at once, when the loop's others had their turn. */
uint32_t np_poll_read_step(struct np_handle *handle, struct np_poll_read *read);
/* A whole message: NP_OK and its size; then its bytes [op.count, upto), NP_RETRY: it was withdrawn, look for the next
 * one; then it is consumed. NP_WOULD_WAIT and NP_YIELD: as above. */
uint32_t np_poll_message(struct np_handle *handle, struct np_poll_read *read, uint32_t *size);
uint32_t np_poll_message_more(struct np_handle *handle, struct np_poll_read *read, void *buffer, uint32_t upto);
uint32_t np_poll_message_take(struct np_handle *handle, struct np_poll_read *read);
/* The end of it. What was copied into `buffer` and not consumed is put back. */
uint32_t np_poll_read_leave(struct np_handle *handle, struct np_poll_read *read, void *buffer);
/* Whether the connection is at its end, here or there. */
bool np_poll_has_ended(struct np_handle *handle);
/* Whether there may be something to read, or to say to one who reads. */
bool np_poll_has_come(struct np_handle *handle);
/* The end of all that is announced to this end so far, and whether reads have delivered that much, with `more` bytes
 * that are about to be. For turns: a hint. */
uint64_t np_poll_announced(struct np_handle *handle);
bool np_poll_is_read(struct np_handle *handle, uint64_t upto, uint32_t more);
/* Spins for up to `longest` nanoseconds. Whether there is something to read. */
bool np_poll_spin(struct np_handle *handle, int64_t longest);

#endif
