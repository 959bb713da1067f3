/* A pipe that is being traced: who looks on, and what they are told of. A link that nobody looks at has no tap, which
 * costs its calls one load. */
#ifndef NPIPE_RING_TAP_H
#define NPIPE_RING_TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/link.h"
#include "ring/record.h"

#define NP_MOST_TRACERS 4 /* of a pipe's, in one process */

struct np_tap;
struct np_tracer;

struct np_trace_options {
    uint32_t most; /* bytes of each write that are copied */
};

/* NULL: no memory. */
struct np_tap *np_tap_new(void);
void np_tap_unref(struct np_tap *tap);

/* Maps the ring in `fd`, which stays the caller's, after it is checked, and writes records into it from now on; bytes
 * that wake its reader go through `socket`, as long as the tracer is there. NP_INVALID_DATA: it is not as it should be;
 * NP_PIPE_BUSY: there are as many tracers as may be; NP_NOT_ENOUGH_MEMORY. */
uint32_t np_tap_add(struct np_tap *tap, int fd, int socket, const struct np_trace_options *options,
                    struct np_tracer **tracer);
/* After it nobody uses the ring and the socket. Whether no other tracer is left. */
bool np_tap_remove(struct np_tap *tap, struct np_tracer *tracer);
bool np_tap_has_tracers(const struct np_tap *tap);

/* One who is told of all links that this process makes from now on: who records the process from within. As np_tap_add;
 * its memory and its socket stay the process's. */
uint32_t np_tap_all(int fd, int socket, const struct np_trace_options *options, struct np_tracer **tracer);
/* After it nobody uses that one's ring and socket. In a forked child, where it is the parent's, it does nothing, also
 * if the child has one of its own: where the parent's ring is mapped there may be the child's. */
void np_tap_all_end(struct np_tracer *tracer);
/* The tap of those, or NULL if there is none. */
struct np_tap *np_tap_of_all(void);
/* In a forked child, which is not recorded. */
void np_tap_after_fork(void);

/* The link is traced (NULL: only by whoever is told of all). Once it was, always by the same tap. With the process lock
 * held, or while nobody else knows the link. */
void np_tap_link(struct np_link *link, struct np_tap *tap);

/* Something happened on the link. `tracer`: only this one is told; NULL: all are. */
void np_tap_event(struct np_link *link, struct np_tracer *tracer, enum npr_kind kind, uint32_t code);
/* The link begins, of the pipe of that name (`size` bytes of UTF-8). */
void np_tap_opened(struct np_link *link, const char *name, uint32_t size);
/* `size` bytes, which stand in the ring from `position` on, are bytes `offset` to `offset` + `size` of a write of
 * `total`. `sequence`: of a deferred entry, 1 + its number. With the lock of that side. */
void np_tap_moved(struct np_link *link, bool out, uint64_t position, uint32_t size, uint32_t offset, uint32_t total,
                  uint32_t sequence);
/* The rest of a write that was recorded up to `offset` does not come. */
void np_tap_withdrawn(struct np_link *link, bool out, uint32_t offset, uint32_t total, uint32_t sequence,
                      uint32_t code);

/* Whether somebody looks on. Relaxed: who finds one loads it again before it is used, and a call that began before the
 * tracer came need not see it. */
static inline bool np_is_tapped(const struct np_link *link)
{
    return __builtin_expect(atomic_load_explicit(&link->tap, memory_order_relaxed) != NULL, 0);
}

#endif
