/* Writes that wait: bytes, transactions, a flush. */
#ifndef NPIPE_BLOCKING_WRITE_H
#define NPIPE_BLOCKING_WRITE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/wait.h"

struct np_handle;
struct np_link;

/* WriteFile. NP_BROKEN_PIPE with *count == size > 0: another thread has closed this end meanwhile, but all of it stays
 * readable. NP_SEM_TIMEOUT: *count bytes of it had been read by then, and stay so; the rest is withdrawn. */
uint32_t np_write(struct np_handle *handle, const void *data, uint32_t size, uint32_t *count,
                  const struct np_wait *wait);
/* The same of one message, or piece, in several buffers: as many of them as `size` bytes need. */
uint32_t np_write_parts(struct np_handle *handle, const struct iovec *parts, uint32_t size, uint32_t *count,
                        const struct np_wait *wait);
/* The write half of TransactNamedPipe after its checks (SEMANTICS 8.1); the read half is a message-mode np_read.
 * `read_reply` is called when the request is sent, be it without a `wait`: then a signal's handler has raised, and the
 * answer is not waited for. */
uint32_t np_transact(struct np_handle *handle, const void *data, uint32_t size, const struct np_wait *wait,
                     uint32_t (*read_reply)(void *context, const struct np_wait *wait), void *context);
/* Waits a turn until the consumer has moved, or another thread of this end has moved something on; `awaiting` is the
 * same in all turns of a call. Called and returns with tx_lock held. NP_OK, or what ends the wait. */
struct np_awaiting {
    enum np_heed heed;
    uint32_t turns;
};
#define NP_AWAITING ((struct np_awaiting){.heed = NP_HEED_ASK})
uint32_t np_await_room(struct np_handle *handle, struct np_link *link, struct np_awaiting *awaiting,
                       const struct np_wait *wait);
/* FlushFileBuffers (SEMANTICS 10.1). */
uint32_t np_flush(struct np_handle *handle, const struct np_wait *wait);

/* Waits until all pending writes of this end stand in the ring, where they stay readable after a close. */
uint32_t np_drain(struct np_handle *handle, const struct np_wait *wait);

#endif
