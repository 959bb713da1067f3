/* Starting an overlapped read, write or transaction. */
#ifndef NPIPE_OVERLAPPED_START_H
#define NPIPE_OVERLAPPED_START_H

#include <stdbool.h>
#include <stdint.h>

#include "overlapped/operation.h"

struct np_handle;
struct np_object;
struct np_status_block;

/* How an operation's completion is told; references are taken. */
struct np_telling {
    struct np_object *event, *file, *port;
    uint64_t key;
    bool no_packet; /* hEvent | 1 */
    bool apc;       /* a completion routine of the calling thread: neither event nor packet */
    struct np_status_block *block; /* where the end is to be written too, or NULL; valid until it is told */
    void *owner;
};
/* Makes a fresh or finished operation ready for use: the event and the handle's own signal are reset. */
void np_async_prepare(struct np_async *async, struct np_handle *handle, enum np_async_kind kind,
                      const struct np_telling *telling);

/* Start: NP_OK or NP_MORE_DATA (done at once, and told; by_start: to nobody who would give the owner's reference back),
 * NP_IO_PENDING, or the error (nothing is told). The buffers belong to the operation until it is told. */
uint32_t np_async_read(struct np_async *async, void *buffer, uint32_t size);
uint32_t np_async_write(struct np_async *async, const void *data, uint32_t size);
uint32_t np_async_transact(struct np_async *async, const void *data, uint32_t size, void *reply, uint32_t reply_size);

/* Whether a read is pending though its entry has begun to arrive: what was written counts as there as a whole
 * (SEMANTICS 0.3), and the writer's process is just bringing it. Then a moment's wait for that; what the start returns
 * after it. */
bool np_async_lacks_rest(struct np_async *async);
uint32_t np_async_await_rest(struct np_async *async);
/* Whether a transaction may begin (SEMANTICS 8.1), with rx_lock held. */
uint32_t np_transact_check(struct np_handle *handle);

#endif
