/* Dialling in an event loop: the steps of pipe/dial.h, which never wait. */
#ifndef NPIPE_POLL_DIAL_H
#define NPIPE_POLL_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "pipe/dial.h"

/* With copies of the names of `where`. NULL: no memory. */
struct np_dial *np_dial_new(const struct np_where *where, enum npw_kind kind, const struct np_open_options *options,
                            int64_t deadline, bool use_default);
void np_dial_free(struct np_dial *dial);
/* np_dial_step. NP_IO_PENDING: again when dial->socket is readable, or at dial->until. NP_WOULD_WAIT: again in a
 * moment. NP_OK, or the end of it. */
uint32_t np_dial_poll(struct np_dial *dial, char *why);

#endif
