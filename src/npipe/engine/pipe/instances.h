/* A pipe of which this process owns instances: the list of those that listen, and who is told when one is closed. */
#ifndef NPIPE_PIPE_INSTANCES_H
#define NPIPE_PIPE_INSTANCES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pipe/directory.h"

struct np_handle;
struct np_tap;
struct np_visitor;

struct np_access_rule {
    bool everyone;
    uint32_t n_uids, n_gids;
    uid_t *uids;
    gid_t *gids;
    uint32_t allowed; /* NP_READ | NP_WRITE: what clients may ask for */
};
/* Why np_connect has just returned NP_NO_SYSTEM_RESOURCES: an errno. */
int np_connect_reason(const struct np_handle *handle);
/* For a server at the limit: waits until the number of closed instances is not `seen` any more, or another process that
 * owns instances of the name has died. */
uint32_t np_closed_seq(void);
void np_wake_closed(void);

/* A pipe of which this process owns instances. Guarded by the process lock. */
struct np_pipe {
    struct np_pipe *next;
    char *root, *folder;
    struct np_folder files;
    uint32_t forks;        /* np_forks when it was made: in a child all of it is the parent's */
    struct npf_slot *slot; /* our own in files.page */
    uint64_t id;
    int socket;
    uint64_t watch;
    int64_t paused_until; /* no descriptors were left for accept: 0, or when to try again */
    /* the one whose np_connect answers at the socket itself, instead of the native thread, or NULL */
    struct np_handle *leader;
    uint32_t leader_seq;      /* its connect_seq when it began */
    bool leader_awake;     /* it is awake and answers */
    /* the leader has its client and will be back in a moment: till then nobody looks at the socket; 0: no */
    int64_t leased_until;
    bool leader_called;
    int leader_event;             /* eventfd that calls it back */
    uint32_t refs;        /* the list's, and that thread's */
    uint32_t type, direction, max_instances, default_timeout_ms;
    struct np_access_rule rule;
    struct np_summary *summary; /* of its connections that have ended */
    int64_t since;              /* np_wall_clock() */
    uid_t owner; /* as whom the thread acted that made it */
    bool untraceable;   /* an instance was made that says so */
    struct np_tap *tap; /* made for the first tracer; NULL: there was none */
    uint32_t instances;
    struct np_handle *first_listening, *last_listening;
    struct np_visitor *first_visitor, *last_visitor;
};

/* What np_wait_closed waits for has happened. */
void np_tell_closed(void);
/* A client could not be let in for want of memory: whoever accepts is told 1450 with the reason, and the instance goes
 * on listening. */
void np_accept_failed(struct np_pipe *pipe, struct np_handle *handle, int reason);
/* The instance has left the listening state: whoever waits for that is woken. */
void np_left_listening(struct np_pipe *pipe, struct np_handle *handle);
/* With the process lock held: who waits in np_connect looks again, though nothing has come. */
void np_wake_connects(struct np_handle *handle);
/* Listening instances, the longest-listening first. With the process lock held. */
void np_listening_append(struct np_pipe *pipe, struct np_handle *handle);
void np_listening_put_back(struct np_pipe *pipe, struct np_handle *handle); /* as the longest-listening */
void np_listening_remove(struct np_pipe *pipe, struct np_handle *handle);

/* The pipe of that name of which this process owns instances, or NULL. With the process lock held. */
struct np_pipe *np_pipe_find(const struct np_where *where);

#endif
