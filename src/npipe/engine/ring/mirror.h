/* A ring mapped once more, twice in a row, so that an entry is contiguous wherever it stands: for those who look at it,
 * or write it, in place (blocking/view.h). Made when the first one asks; the copying calls do not use it.
 *
 * It outlives its link, as long as somebody holds it: what a program may still look at stays mapped. */
#ifndef NPIPE_RING_MIRROR_H
#define NPIPE_RING_MIRROR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

struct np_link;

struct np_mirror {
    _Atomic uint32_t refs; /* the link's, and one for each who has a place in it */
    uint8_t *base;
    uint64_t capacity;
    /* The place that a view has now; size 0: none has. */
    _Atomic uintptr_t place;
    _Atomic uint64_t size;
    struct np_pages saved; /* of that place, while the process forks */
    struct np_mirror *next, *previous; /* all of the process, with np_fds_hold */
};

enum np_mirror_side { NP_MIRROR_RX, NP_MIRROR_TX };

/* The link's mirror of that ring, with a reference for the caller; NULL: there is none, and never will be. With the
 * side's lock. */
struct np_mirror *np_mirror_get(struct np_link *link, enum np_mirror_side side);
/* Whether there is one now. With the side's lock. */
bool np_mirror_can(struct np_link *link, enum np_mirror_side side);
void np_mirror_unref(struct np_mirror *mirror);

/* A view has `size` bytes from `position` on, counted from the ring's beginning; returns where they are. */
void *np_mirror_lend(struct np_mirror *mirror, uint64_t position, uint32_t size);
/* The view is over. `exported`: somebody still looks at its bytes, so these become a copy of this process's own, the
 * ring's are free, and the link gets another mirror for the next view. False: no memory for that, and the ring's must
 * not be used again. With the side's lock. */
bool np_mirror_end(struct np_mirror *mirror, struct np_link *link, enum np_mirror_side side, bool exported);

/* Of a link that ends: whether others have them still, so that nobody else may get the segment. */
bool np_mirrors_let_go(struct np_link *link);

/* Over a fork, with np_fds_hold: a child's view is of what there was in that moment, in a copy of its own. The links'
 * references are given back there (np_links_after_fork), so a mirror that nobody looks at is unmapped. */
void np_mirrors_before_fork(void);
void np_mirrors_after_fork(bool in_child);

#endif
