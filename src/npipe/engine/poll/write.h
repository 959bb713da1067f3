/* Writing and flushing in an event loop, in steps that never wait. */
#ifndef NPIPE_POLL_WRITE_H
#define NPIPE_POLL_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/op.h"

struct np_handle;
struct np_link;

/* A write that is pending. Its data stays where it is until the write is over. */
struct np_poll_write {
    struct np_op op;
    struct np_link *link; /* held; NULL: over, or not begun */
};
/* A write that is not to wait: NP_OK and *count, fewer than `size` on a NOWAIT handle alone; NP_WOULD_WAIT: nothing was
 * written. */
uint32_t np_poll_write_now(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count);
/* The same of several buffers: as many of them as `size` bytes need. */
uint32_t np_poll_write_parts_now(struct np_handle *handle, const struct iovec *parts, uint32_t size, uint32_t *count);
/* NP_OK: complete; NP_WOULD_WAIT: it stands in its turn. */
uint32_t np_poll_write_begin(struct np_handle *handle, struct np_poll_write *write, const void *data, uint32_t size);
/* NP_WOULD_WAIT, or its result, and then it is over. */
uint32_t np_poll_write_step(struct np_handle *handle, struct np_poll_write *write);
/* Whether a step would give its result: the last np_poll_wake has seen to it that this is known. By the thread that
 * uses the handle. */
bool np_poll_write_ready(const struct np_poll_write *write);
/* NP_OK: nothing of it will be read. NP_NO_DATA: it is complete. NP_WOULD_WAIT: the peer has read a part of it, so it
 * goes on. NP_MORE_DATA: the peer has read a part of it just now, and the rest was taken back. Else why the link has
 * ended. */
uint32_t np_poll_write_withdraw(struct np_handle *handle, struct np_poll_write *write);
/* The handle is about to be closed: NP_OK if all of it will stay readable. */
uint32_t np_poll_write_leave(struct np_handle *handle, struct np_poll_write *write, bool discard);
/* Whether all pending writes stand in the ring, where they stay readable after a close. */
bool np_poll_all_put(struct np_handle *handle);

/* The same for a flush. */
uint32_t np_poll_flush_begin(struct np_handle *handle, struct np_poll_write *flush);
uint32_t np_poll_flush_step(struct np_handle *handle, struct np_poll_write *flush);
bool np_poll_flush_ready(struct np_handle *handle, const struct np_poll_write *flush);
void np_poll_flush_leave(struct np_handle *handle, struct np_poll_write *flush);

/* Whether a transaction may begin (SEMANTICS 8.1). */
uint32_t np_poll_transact_check(struct np_handle *handle);

#endif
