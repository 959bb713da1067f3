/* Taking away what processes that died have left in a folder. */
#ifndef NPIPE_PIPE_SWEEP_H
#define NPIPE_PIPE_SWEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct np_handle;
struct np_link;

/* Has it take away what is left of a pipe whose folder somebody else has locked, as soon as that is over. Without the
 * process lock. */
void np_sweep_later(const char *root, const char *folder);
/* Before its link is taken away, with the process lock: a client that knows that its server is dead may leave before
 * the native thread has come to clean up behind the dead. */
void np_handle_leaves(const struct np_handle *handle);

/* A folder whose owner has died, or has gone while somebody else had its lock: this process may be the only one that
 * comes by to clean up. */
struct np_sweep {
    struct np_sweep *next;
    char *root, *folder;
    pid_t dying;        /* who is perhaps just dying, or 0 */
    int64_t due, pause; /* not before that; after an attempt that was too early, how long till the next one */
};

/* Takes out those that are due, with the process lock held. */
struct np_sweep *np_sweeps_due(int64_t now);

void np_sweep_free(struct np_sweep *sweep);

/* The native thread's, without a lock. Where somebody has the folder's lock it comes again: it may be stopped, and this
 * process may be the last one that knows. */
void np_sweeps_do(struct np_sweep *sweeps);

/* The peer's socket hung up: if it was a server that died, its folder is planned. With the process lock held. */
void np_sweep_link_gone(struct np_link *link, uint64_t watch, struct np_sweep **sweeps);

/* A thread has found a server dead that was not watched. With the process lock held. */
void np_sweep_unwatched(struct np_sweep **sweeps);

#endif
