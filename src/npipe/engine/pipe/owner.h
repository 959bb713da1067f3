/* The owner's side of the rendezvous: who may have an instance, who waits for one. With the process lock held. */
#ifndef NPIPE_PIPE_OWNER_H
#define NPIPE_PIPE_OWNER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/identity.h"

struct np_handle;
struct np_pipe;
struct np_tracer;
struct npw_remote;

/* Somebody connected to a pipe's socket who has no link yet. */
struct np_visitor {
    struct np_visitor *next, *previous; /* in its pipe's list */
    struct np_pipe *pipe;
    int socket;
    uint64_t watch;
    int64_t deadline;  /* by which its request has to be here; NP_FOREVER once it is */
    uint32_t kind;     /* npw_kind; 0 until its request is here */
    uint32_t access;
    uint64_t offer;    /* token of the segment that it has kept, or 0 */
    bool keep, reused;
    bool silent; /* has not said what it wants: in np_process's list, */
    struct np_visitor *next_silent, *previous_silent; /* the longest-silent first */
    int reason; /* why there is no memory for its link: an errno, or 0; why it is denied: npw_denial */
    struct np_credentials who;
    struct np_tracer *tracer;  /* of one who traces the pipe, or NULL */
    struct npw_remote *remote; /* for whom it opens, or NULL; */
    uint32_t remote_size;
    uint64_t remote_hash; /* of these bytes; 0 without */
};

void np_pipe_accept(struct np_pipe *pipe);
void np_visitor_ready(struct np_visitor *visitor, bool fresh);
void np_visitor_drop(struct np_visitor *visitor);
/* An instance has begun to listen: waiters and held requests get what they wait for. */
void np_pipe_serve(struct np_pipe *pipe);
/* Tells the other owners of the name, if any holds requests (`listening`) or waits for room to create. */
void np_pipe_nudge(struct np_pipe *pipe, bool listening);
/* The last instance here has gone: nobody waits any longer. */
void np_pipe_turn_away(struct np_pipe *pipe);
/* Nobody may trace the pipe from now on, as far as this process serves it; who does is hung up on. With the process
 * lock held. */
void np_pipe_forbid_tracing(struct np_pipe *pipe);
/* The same of that instance's pipe, without the lock. */
void np_forbid_tracing(const struct np_handle *handle);
uint32_t np_pipe_instances(const struct np_pipe *pipe);
/* The same without those of processes that have died since. */
uint32_t np_pipe_living_instances(const struct np_pipe *pipe);

#endif
