/* For servers at the limit of instances: waiting until an instance is closed, here or in another process. */
#ifndef NPIPE_PIPE_ROOM_H
#define NPIPE_PIPE_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct np_wait;
struct np_where;

uint32_t np_wait_closed(const struct np_where *where, uint32_t seen, const struct np_wait *wait);

/* Another owner of a name whose limit of instances is reached: its end makes room. */
struct np_owner {
    struct np_owner *next;
    int socket;
    uint64_t watch;
};

/* Somebody waits for np_tell_closed, from begin to end. */
void np_await_closed_begin(void);
void np_await_closed_end(void);
/* Has all other owners of the name watched while somebody does. False: one of them is dead already, so there may be
 * room now. */
bool np_watch_owners(const struct np_where *where);
/* With the process lock: what the native thread does when an owner that somebody waits for has gone. */
void np_owner_gone(struct np_owner *owner);

#endif
