/* CreateNamedPipe. */
#ifndef NPIPE_PIPE_CREATE_H
#define NPIPE_PIPE_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "pipe/instances.h"

struct np_handle;
struct np_wait;
struct np_where;

struct np_create_options {
    uint32_t access;        /* 1 inbound, 2 outbound, 3 duplex */
    bool first_instance;
    uint32_t type;          /* NP_TYPE_MESSAGE or 0 */
    uint32_t mode;          /* NP_MODE_* */
    uint32_t max_instances; /* 1..255 */
    uint32_t out_quota, in_quota;
    uint32_t default_timeout_ms;
    struct np_access_rule rule;
    bool untraceable; /* nobody may trace the pipe, as far as this process has instances of it */
    bool overlapped; /* the handle may have overlapped operations, and be handed to another process */
    /* While another process has the lock of the pipe's folder: until when, and by what it is interrupted. NULL: the
     * bound of np_lock_pause alone, which holds in any case. */
    const struct np_wait *wait;
};

/* CreateNamedPipe (SEMANTICS 2). NP_SEM_TIMEOUT, NP_NO_SYSTEM_RESOURCES (and why), NP_INTERRUPTED: another process has
 * the lock of the pipe's folder, see np_lock_pause. */
uint32_t np_create(const struct np_where *where, const struct np_create_options *options, struct np_handle **handle,
                   char *why);
/* Another instance like `handle`, which is open: the next one to listen. `wait` as in np_create_options. */
uint32_t np_create_another(struct np_handle *handle, const struct np_wait *wait, struct np_handle **fresh);

/* The instance is the last in line from now on, and whoever waits is served. */
void np_listening_start(struct np_pipe *pipe, struct np_handle *handle);

/* Another instance with the attributes of `handle`. */
void np_handle_copy_set_up(struct np_handle *fresh, const struct np_handle *handle);

#endif
