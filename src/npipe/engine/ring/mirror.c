#include "ring/mirror.h"

#include <stdlib.h>

#include "base/fds.h"
#include "ring/link.h"

static struct np_mirror *mirrors; /* guarded by np_fds_hold, so that a fork finds the list in order */

static struct np_mirror *new_mirror(void *ring, uint64_t capacity)
{
    struct np_mirror *mirror = calloc(1, sizeof *mirror);
    if (!mirror)
        return NULL;
    mirror->capacity = capacity;
    atomic_init(&mirror->refs, 1);
    mirror->base = np_segment_map_twice(ring, capacity);
    if (!mirror->base) {
        free(mirror);
        return NULL;
    }
    np_fds_hold();
    mirror->next = mirrors;
    if (mirrors)
        mirrors->previous = mirror;
    mirrors = mirror;
    np_fds_release();
    return mirror;
}

bool np_mirror_can(struct np_link *link, enum np_mirror_side side)
{
    struct np_mirror *mirror = link->mirror[side];
    if (!mirror && !link->no_mirror[side]) {
        bool receives = side == NP_MIRROR_RX;
        /* What has been moved out of the segment is not shared memory. */
        if (!receives && link->unshared[1])
            link->no_mirror[side] = true;
        else
            mirror = receives ? new_mirror((void *)(uintptr_t)link->rx.ring, link->rx.capacity)
                              : new_mirror(link->tx.ring, link->tx.capacity);
        link->no_mirror[side] = !mirror;
        link->mirror[side] = mirror;
    }
    return mirror != NULL;
}

struct np_mirror *np_mirror_get(struct np_link *link, enum np_mirror_side side)
{
    struct np_mirror *mirror = np_mirror_can(link, side) ? link->mirror[side] : NULL;
    if (mirror)
        /* Relaxed: the link has a reference, so the count cannot reach zero meanwhile. */
        atomic_fetch_add_explicit(&mirror->refs, 1, memory_order_relaxed);
    return mirror;
}

void np_mirror_unref(struct np_mirror *mirror)
{
    /* Release: what this thread did there comes before its end; acquire: before the unmap. */
    if (atomic_fetch_sub_explicit(&mirror->refs, 1, memory_order_acq_rel) != 1)
        return;
    np_fds_hold();
    if (mirror->previous)
        mirror->previous->next = mirror->next;
    else
        mirrors = mirror->next;
    if (mirror->next)
        mirror->next->previous = mirror->previous;
    np_fds_release();
    np_segment_unmap(mirror->base, 2 * mirror->capacity);
    free(mirror);
}

void *np_mirror_lend(struct np_mirror *mirror, uint64_t position, uint32_t size)
{
    uint8_t *place = mirror->base + (position & (mirror->capacity - 1));
    /* Relaxed: a fork's child is a copy of one moment, and nobody else looks. Before it the program does not know of
     * the place. */
    atomic_store_explicit(&mirror->place, (uintptr_t)place, memory_order_relaxed);
    atomic_store_explicit(&mirror->size, size, memory_order_relaxed);
    return place;
}

bool np_mirror_end(struct np_mirror *mirror, struct np_link *link, enum np_mirror_side side, bool exported)
{
    uint64_t size = atomic_load_explicit(&mirror->size, memory_order_relaxed);
    bool own = true;
    if (exported) {
        struct np_pages pages = size ? np_pages_copy(
                                           (const void *)atomic_load_explicit(&mirror->place, memory_order_relaxed),
                                           size)
                                     : (struct np_pages){0};
        own = size == 0 || (pages.copy && np_pages_put(&pages));
        np_pages_drop(&pages);
        if (link->mirror[side] == mirror) {
            link->mirror[side] = NULL;
            np_mirror_unref(mirror);
        }
    }
    if (own)
        atomic_store_explicit(&mirror->size, 0, memory_order_relaxed);
    return own;
}

bool np_mirrors_let_go(struct np_link *link)
{
    bool others = false;
    for (int side = 0; side < 2; side++) {
        struct np_mirror *mirror = link->mirror[side];
        if (!mirror)
            continue;
        link->mirror[side] = NULL;
        /* Relaxed: the link is at its end, so nobody takes a reference any more, and who gives one back at this moment
         * is counted as having it. */
        others = others || atomic_load_explicit(&mirror->refs, memory_order_relaxed) > 1;
        np_mirror_unref(mirror);
    }
    return others;
}

void np_mirrors_before_fork(void)
{
    for (struct np_mirror *mirror = mirrors; mirror; mirror = mirror->next) {
        uint64_t size = atomic_load_explicit(&mirror->size, memory_order_relaxed);
        uintptr_t place = atomic_load_explicit(&mirror->place, memory_order_relaxed);
        /* Another thread may begin or end a view meanwhile: then it is a copy for nobody, but of a place here. */
        if (size && place - (uintptr_t)mirror->base <= 2 * mirror->capacity - size)
            mirror->saved = np_pages_copy((const void *)place, size);
    }
}

void np_mirrors_after_fork(bool in_child)
{
    for (struct np_mirror *mirror = mirrors; mirror; mirror = mirror->next) {
        if (in_child) {
            /* Without memory for it the child sees what the parent does there. */
            if (mirror->saved.copy)
                (void)np_pages_put(&mirror->saved);
            atomic_store_explicit(&mirror->size, 0, memory_order_relaxed);
        }
        np_pages_drop(&mirror->saved);
    }
}
