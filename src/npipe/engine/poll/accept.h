/* Accepting in an event loop. */
#ifndef NPIPE_POLL_ACCEPT_H
#define NPIPE_POLL_ACCEPT_H

#include <stdbool.h>
#include <stdint.h>

struct np_acceptor;
struct np_where;

/* And it is when instances have been closed since np_closed_seq was `seen`, or another owner of the name has died:
 * until np_acceptor_forget_room. */
void np_acceptor_await_room(struct np_acceptor *acceptor, const struct np_where *where, uint32_t seen);
void np_acceptor_forget_room(struct np_acceptor *acceptor);
void np_acceptor_free(struct np_acceptor *acceptor);

#endif
