/* An operation on an end: a read, a write or a flush. A blocking call keeps it on its stack. */
#ifndef NPIPE_OP_H
#define NPIPE_OP_H

#include <string.h>
#include <sys/uio.h>

#include "ring/link.h"

/* Where the bytes of a write come from: one buffer, or several that follow each other (then `parts` is not NULL). */
struct np_source {
    const void *data;
    const struct iovec *parts; /* as many as the write's size needs; some may be empty */
};

/* How far one has come in several buffers. */
struct np_parts {
    const struct iovec *part; /* the next; NULL: there is one buffer only */
    size_t taken;             /* of it */
};

static inline struct np_source np_source_of(const void *data)
{
    return (struct np_source){.data = data};
}

/* The next bytes that stand side by side, at most `size` > 0. Returns their number, > 0. */
static inline uint32_t np_parts_next(struct np_parts *from, uint32_t size, void **place)
{
    while (from->taken == from->part->iov_len) {
        from->part++;
        from->taken = 0;
    }
    size_t left = from->part->iov_len - from->taken;
    uint32_t piece = size < left ? size : (uint32_t)left;
    *place = (uint8_t *)from->part->iov_base + from->taken;
    from->taken += piece;
    return piece;
}

/* Copies the first `size` bytes. */
static inline void np_source_copy(uint8_t *target, struct np_source source, uint32_t size)
{
    struct np_parts from = {.part = source.parts};
    if (!source.parts && size)
        memcpy(target, source.data, size);
    while (source.parts && size) {
        void *place;
        uint32_t piece = np_parts_next(&from, size, &place);
        memcpy(target, place, piece);
        target += piece;
        size -= piece;
    }
}

struct np_op {
    struct np_op *next;
    void (*completed)(struct np_op *op); /* of an overlapped operation: called when it is done and out of the queue */
    uint32_t code; /* once done */
    bool done;
    bool queued;
    bool pended;    /* found nothing at first: it takes from one entry only (SEMANTICS 5.1) */
    bool waited;    /* a read: it found nothing, or stood behind others, while the link was well */
    bool holds;     /* recv: has the turn, and takes its time */
    bool touched;   /* a byte-mode read has consumed an entry, be it empty */
    bool posted;
    bool started;   /* a write: its header stands in the ring */
    bool deferred;  /* ... as a deferred entry */
    bool hole;      /* a reservation: once `started`, the ring's end is its place (np_tx_reserve) */
    uint32_t post;
    uint32_t sequence;
    uint8_t *out;
    const uint8_t *in;
    struct np_parts parts; /* several buffers, instead of `in`; of a read of a whole message, instead of `out` */
    uint32_t size;
    uint32_t count;  /* read so far; put into the ring so far */
    uint32_t delivered; /* a write that was withdrawn: what its reader had taken by then, and keeps */
    uint64_t end;    /* a write: position of its end among all payload announced */
    uint64_t number; /* a write or flush: the entry's number, from 1 */
};

/* Whether a byte-mode read has taken something, which is to be delivered, or put back, whatever ends it. */
static inline bool np_op_has_taken(const struct np_op *op)
{
    return op->count || op->touched;
}

static inline void np_queue_append(struct np_op **first, struct np_op **last, struct np_op *op)
{
    op->next = NULL;
    op->queued = true;
    if (*last)
        (*last)->next = op;
    else
        *first = op;
    *last = op;
}

/* As the first. */
static inline void np_queue_prepend(struct np_op **first, struct np_op **last, struct np_op *op)
{
    op->next = *first;
    op->queued = true;
    *first = op;
    if (!*last)
        *last = op;
}

static inline void np_queue_remove(struct np_op **first, struct np_op **last, struct np_op *op)
{
    struct np_op *before = NULL;
    for (struct np_op *item = *first; item; before = item, item = item->next) {
        if (item != op)
            continue;
        if (before)
            before->next = op->next;
        else
            *first = op->next;
        if (*last == op)
            *last = before;
        op->next = NULL;
        op->queued = false;
        return;
    }
}

#endif
