/* Cancelling operations, and what ends them: a close, a disconnect, the end of their thread. */
#ifndef NPIPE_OVERLAPPED_CANCEL_H
#define NPIPE_OVERLAPPED_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct np_async;
struct np_handle;
struct np_link;
struct np_thread;

/* CancelIoEx: false if it is over already. */
bool np_async_cancel(struct np_async *async);
/* CancelIo (thread: the calling one's only), CancelIoEx(h, NULL) (thread NULL): the number of operations. */
uint32_t np_async_cancel_all(struct np_handle *handle, const struct np_thread *thread);
/* The link ends on this side (both locks held): what is pended on it is over. */
void np_async_end(struct np_link *link, uint32_t code);
/* The thread has ended. */
void np_async_cancel_thread(struct np_thread *thread);

#endif
