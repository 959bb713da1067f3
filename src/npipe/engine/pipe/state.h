/* What is known of a handle's pipe and set of its state: mode, quotas, peers, impersonation. */
#ifndef NPIPE_PIPE_STATE_H
#define NPIPE_PIPE_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ring/segment.h"
#include "handle/handle.h"

/* Moves whatever threads of this process sleep on in calls on the handle, so that those that are cancelled go. */
void np_handle_cancel_blocked(struct np_handle *handle);
/* ImpersonateNamedPipeClient (SEMANTICS 11): the calling thread acts as the client. */
uint32_t np_impersonate(struct np_handle *handle);
/* Whether it is a client's whose server has disconnected it. */
bool np_is_disconnected(struct np_handle *handle);
/* Whether anything was ever read from the current connection. */
bool np_has_read(struct np_handle *handle);
uint32_t np_set_state(struct np_handle *handle, uint32_t mode);
uint32_t np_get_state(struct np_handle *handle, uint32_t *mode, uint32_t *instances);
struct np_info {
    uint32_t flags, out_quota, in_quota, max_instances;
};
uint32_t np_get_info(struct np_handle *handle, struct np_info *info);
/* What the handle itself knows, without the access checks that Win32 makes. */
struct np_description {
    bool server;
    uint32_t type, direction, mode, in_quota, out_quota, max_instances;
    uint32_t access; /* NP_READ | NP_WRITE: what this end may do */
};
/* How the other end of a connection has ended. For texts alone: the peer writes most of it. */
enum np_peer_end {
    NP_PEER_UNKNOWN = 0, /* there is no connection */
    NP_PEER_OPEN,
    NP_PEER_CLOSED,       /* it was closed; what it wrote stays readable */
    NP_PEER_DISCONNECTED, /* the server has disconnected the client */
    NP_PEER_ABORTED,      /* it was closed, and what it wrote was discarded */
    NP_PEER_DIED,         /* its process ended without closing it */
};
enum np_peer_end np_peer_ended(struct np_handle *handle);
void np_describe(const struct np_handle *handle, struct np_description *description);
/* The current instances of a handle's name, also without a check; 0 when its servers are gone. */
uint32_t np_count_instances(struct np_handle *handle, uint32_t *instances);
uint32_t np_client_pid(struct np_handle *handle, uint32_t *pid);
uint32_t np_server_pid(struct np_handle *handle, uint32_t *pid);
/* Who is at the other end; NP_PIPE_NOT_CONNECTED, NP_PIPE_LISTENING if nobody is. */
uint32_t np_peer(struct np_handle *handle, pid_t *pid, uid_t *uid);
/* Of a server's end: the client of another machine for whom it was opened, as pipe/messages.h has it (struct npw_remote
 * and what is behind it), in memory that is the caller's to free; NULL: it is of this machine. NP_NOT_ENOUGH_MEMORY. */
uint32_t np_remote(struct np_handle *handle, void **data, uint32_t *size);
/* Bytes of the head message that have not been read, after part of it was. 0: at a message boundary. */
uint32_t np_rest_of_message(struct np_handle *handle);
/* Whether a read of this end waits for something to come. */
bool np_is_being_read(struct np_handle *handle);
/* For a read that has its turn and has found a message: whether that is the rest of one that was read in part. */
bool np_is_at_rest_of_message(struct np_handle *handle);
/* Takes the link of a handle away and ends it with `state`; `alert` says why to those who wait. False: the handle was
 * closed already, and stays so. */
bool np_handle_unlink(struct np_handle *handle, uint32_t alert, enum npl_end_state end, enum np_state state);

#endif
