/* ConnectNamedPipe and DisconnectNamedPipe: the server's side of one instance. */
#ifndef NPIPE_PIPE_ACCEPT_H
#define NPIPE_PIPE_ACCEPT_H

#include <stdbool.h>
#include <stdint.h>

struct np_async;
struct np_handle;
struct np_wait;

uint32_t np_async_connect(struct np_async *async);
/* ConnectNamedPipe (SEMANTICS 3.2): NP_OK, 535, 536 (NOWAIT), 232, 1, ... */
uint32_t np_connect(struct np_handle *handle, const struct np_wait *wait);
/* The same, until np_recall is called for the handle: NP_OPERATION_ABORTED. `recalls` is what np_recalls has said
 * before the caller looked for what it would be called back for. It goes on listening. */
uint32_t np_connect_until(struct np_handle *handle, uint32_t recalls, const struct np_wait *wait);
uint32_t np_recalls(const struct np_handle *handle);
void np_recall(struct np_handle *handle);
uint32_t np_disconnect(struct np_handle *handle);
/* Closes a server's handle and puts a new, listening instance in its place in one step, so that a name at its
 * limit of instances never goes away in between. */
uint32_t np_replace(struct np_handle *handle, bool discard, struct np_handle **fresh);

#endif
