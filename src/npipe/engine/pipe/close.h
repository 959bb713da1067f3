/* Closing an end, and what goes with the last instance of a pipe. */
#ifndef NPIPE_PIPE_CLOSE_H
#define NPIPE_PIPE_CLOSE_H

#include <stdbool.h>
#include <stdint.h>

struct np_handle;
struct np_pipe;
struct npf_page;
struct npf_slot;

/* Ends everything on the handle. With `discard` the peer loses what it has not read yet. If it was the pipe's last
 * instance here, the pipe has gone for everybody when this returns; its folder too, unless another process has that
 * locked for 100 ms and more: then the native thread removes it when that is over. */
void np_close(struct np_handle *handle, bool discard);
/* The same without these 100 ms, for whoever must not wait. */
void np_let_go(struct np_handle *handle);

/* This process has no instance of the pipe any more: nobody finds its socket, who has found it is told, and its place
 * in the page is free. Needs neither the folder's lock nor ours. */
void np_pipe_vacate(struct np_pipe *pipe);

/* Closes its descriptors, unless they are the parent's, and frees it. */
void np_pipe_free(struct np_pipe *pipe);

/* NULL: so many processes own instances already. With the folder's lock. */
struct npf_slot *np_slot_find_free(struct npf_page *page);

/* Gives a reference back. Without the process lock. */
void np_pipe_put(struct np_pipe *pipe);

/* The rest of it, with the folder's lock, which is let go. */
void np_pipe_end_locked(struct np_pipe *pipe);

/* Takes it out of the process's list. With the process lock held. */
void np_handle_unregister(struct np_handle *handle);

/* One who leaves its pipe without an end of its connection (travel/): with the create lock held; the pipe, if
 * np_handle_left is to end it. */
struct np_pipe *np_handle_leave(struct np_handle *handle);
/* The rest of it, without a lock. `left`: what np_handle_leave gave. */
void np_handle_left(const struct np_handle *handle, struct np_pipe *left, bool waits);

/* Takes its link away and ends it: closed, or with `discard` as lost. With the process lock held. */
void np_handle_end_link(struct np_handle *handle, bool discard);

#endif
