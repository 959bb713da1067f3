/* Bytes that another processor is about to read. */
#ifndef NPIPE_COPY_H
#define NPIPE_COPY_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

/* From here on, up to there: below, the call of memcpy's own is shorter, and beyond, other things bound the copy. */
#define NP_COPY_LEAST 512u
#define NP_COPY_MOST 16384u
#define NP_COPY_LINE 64u

/* A quarter of a line, anywhere; it may alias anything. */
typedef long long np_quarter __attribute__((vector_size(16), aligned(1), may_alias));

static inline void np_copy_line(uint8_t *target, const uint8_t *source)
{
    const np_quarter *from = (const np_quarter *)source;
    np_quarter a = from[0], b = from[1], c = from[2], d = from[3];
    np_quarter *to = (np_quarter *)target;
    to[0] = a;
    to[1] = b;
    to[2] = c;
    to[3] = d;
}

/* As memcpy. The C library copies a few kilobytes with `rep movsb` where the processor says that this is fast. It is,
 * to memory that nobody else has; but a line that another processor read last comes later to it than to ordinary
 * stores, and those that cross two lines need both at once (docs/performance.md has the figures). So the first line is
 * written in part, then whole lines, and then the last one. */
static inline void np_copy_over(uint8_t *target, const uint8_t *source, uint32_t size)
{
    if (size < NP_COPY_LEAST || size > NP_COPY_MOST) {
        memcpy(target, source, size);
        return;
    }
    const uint8_t *last = source + size - NP_COPY_LINE;
    uint8_t *last_target = target + size - NP_COPY_LINE;
    np_copy_line(target, source);
    uint32_t first = NP_COPY_LINE - (uint32_t)((uintptr_t)target % NP_COPY_LINE);
    for (target += first, source += first; target < last_target; target += NP_COPY_LINE, source += NP_COPY_LINE)
        np_copy_line(target, source);
    np_copy_line(last_target, last);
}

#else

static inline void np_copy_over(uint8_t *target, const uint8_t *source, uint32_t size)
{
    memcpy(target, source, size);
}

#endif

#endif
