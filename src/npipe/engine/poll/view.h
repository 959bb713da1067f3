/* Messages in place, received in an event loop. Reserving is the same as elsewhere (blocking/view.h). */
#ifndef NPIPE_POLL_VIEW_H
#define NPIPE_POLL_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "blocking/view.h"
#include "poll/read.h"

struct np_handle;

/* After np_poll_message has given `size`: whether that message is in place. Then `view` has the turn in the place of
 * `read`, which is over. */
bool np_poll_view(struct np_handle *handle, struct np_poll_read *read, struct np_view *view, uint32_t size);
/* What np_poll_message_take has consumed, and was not delivered after all: the next reads return it. NP_OK or why
 * not. */
uint32_t np_view_put_back(struct np_handle *handle, const struct np_view *view, const void *data, uint32_t size);

#endif
