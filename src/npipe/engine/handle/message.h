/* Receiving a message as a whole, in steps that never wait: find it, copy it piece by piece, take it or leave it. With
 * rx_lock held, and with the turn: the caller's operation is the first in the link's queue. */
#ifndef NPIPE_HANDLE_MESSAGE_H
#define NPIPE_HANDLE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

struct np_handle;
struct np_link;
struct np_op;

struct np_message {
    uint64_t entry; /* as np_rx_head names it */
    /* The call was pending before the message came, or has found it, so the end of the link behind the message does not
     * take it back (np_read_is_owed). Also set by a caller that has spun. */
    bool pended;
    bool waits; /* also on a NOWAIT handle (SEMANTICS 8.2) */
};

/* NP_OK and the size of what comes next; NP_WOULD_WAIT; or why there is nothing. */
uint32_t np_message_find(struct np_handle *handle, struct np_link *link, struct np_message *message, uint32_t *size);
/* Copies bytes [op->count, upto) into buffer + op->count. NP_OK; NP_WOULD_WAIT; NP_RETRY: it has gone, op->count is 0,
 * find what comes next; else why not. */
uint32_t np_message_copy(struct np_link *link, struct np_op *op, const struct np_message *message, uint8_t *buffer,
                         uint32_t upto);
/* Consumes it, of which op->count bytes were copied. NP_RETRY: it has gone. */
uint32_t np_message_take(struct np_link *link, const struct np_op *op, const struct np_message *message);
/* Consumes nothing: what was copied into `buffer` is put back. */
uint32_t np_message_leave(struct np_link *link, struct np_op *op, const struct np_message *message, void *buffer);

#endif
