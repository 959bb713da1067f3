/* CreateFile and WaitNamedPipe: the steps of a dial, and the waits between them. */
#ifndef NPIPE_PIPE_OPEN_H
#define NPIPE_PIPE_OPEN_H

#include <stdbool.h>
#include <stdint.h>

struct np_breakable;
struct np_handle;
struct np_open_options;
struct np_wait;
struct np_where;

/* CreateFile on a pipe (SEMANTICS 2.5), and with options->hold also the wait for an instance, as one step. */
uint32_t np_open(const struct np_where *where, const struct np_open_options *options, const struct np_wait *wait,
                 struct np_handle **handle, char *why);
/* WaitNamedPipe (SEMANTICS 4). With `use_default` the pipe's own time-out replaces wait->deadline. `breakable`: what
 * another thread may end it by (NP_INTERRUPTED), or NULL. */
uint32_t np_wait_named(const struct np_where *where, bool use_default, const struct np_wait *wait,
                       struct np_breakable *breakable, char *why);

/* Of this thread's last np_open or np_wait_named: since when (np_now) it had to wait for an instance; 0: it had not. */
extern _Thread_local int64_t np_held_since;

#endif
