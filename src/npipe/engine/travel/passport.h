/* A connected end that goes from one process to another: what it takes with it, and how it arrives. Its peer notices
 * nothing: segment and socket are the same, and what one process knew of the rings the other one knows then.
 *
 * An end is one process's at a time, for the truth about its rings is private memory. So a handle that two processes
 * have on Windows is here the first one's until the second one asks for it (travel/lend.h). */
#ifndef NPIPE_TRAVEL_PASSPORT_H
#define NPIPE_TRAVEL_PASSPORT_H

#include <stdbool.h>
#include <stdint.h>

struct np_handle;

/* Descriptors, each the passport's own or -1. */
struct np_passport {
    int socket, segment; /* of the link */
    int state;           /* a sealed file: everything else */
};

/* Takes the link out of `handle`, which is closed then; nobody is told. A server's end is no instance any more, neither
 * here nor there: the pipe has one less, and it cannot listen again. `waits`: for the lock of the pipe's folder, a
 * moment; the native thread does not.
 *   NP_PIPE_BUSY           operations are under way, or a write is still waiting for room
 *   NP_PIPE_NOT_CONNECTED  it has no link
 *   NP_INVALID_HANDLE      closed, or not one that can travel
 *   NP_NOT_ENOUGH_MEMORY, NP_TOO_MANY_OPEN_FILES */
uint32_t np_depart(struct np_handle *handle, bool waits, struct np_passport *passport);
/* The socket of the link alone, which is the caller's then (np_fd_close): for two ends that go on without a pipe, and
 * whose rings nobody has used. */
uint32_t np_depart_socket(struct np_handle *handle, bool waits, int *socket);
/* The same for a passport that is sent while the handle can still stay. `deliver` is called with the handle's locks
 * held, so it does not wait; the descriptors stay the handle's. If it returns false, nothing has happened:
 *   NP_NO_SYSTEM_RESOURCES
 * If not, the other process has it, and this one's descriptors are closed. */
typedef bool (*np_deliver_fn)(void *context, const struct np_passport *passport);
uint32_t np_depart_to(struct np_handle *handle, bool waits, np_deliver_fn deliver, void *context);
/* A handle for the end of a passport, whose descriptors it takes in any case. The state is checked: NP_INVALID_DATA. */
uint32_t np_arrive(struct np_passport *passport, struct np_handle **handle);
/* Closes the descriptors of a passport that another process has got. */
void np_passport_sent(struct np_passport *passport);
/* Ends a connection that nobody has come for. */
void np_passport_drop(struct np_passport *passport);

#endif
