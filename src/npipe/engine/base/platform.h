/* What is the operating system's own: time, threads, futexes, segments. A port is another platform_*.c. */
#ifndef NPIPE_PLATFORM_H
#define NPIPE_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/codes.h"

#define NP_FOREVER INT64_MAX /* a deadline that never comes */
#define NP_TRY INT64_MIN     /* not a deadline: do not wait at all */

#define NP_SECOND_NS INT64_C(1000000000)

/* Monotonic nanoseconds. */
int64_t np_now(void);
/* Nanoseconds since 1970, for people. */
int64_t np_wall_clock(void);
uint64_t np_random(void);

/* Sleeps while *word == value, until woken with one of `bits`, a signal, or `deadline` (np_now's clock).
 * The word may be in shared memory. Returns NP_OK (look again), NP_SEM_TIMEOUT or NP_INTERRUPTED (a signal). */
uint32_t np_futex_wait(_Atomic uint32_t *word, uint32_t value, uint32_t bits, int64_t deadline);
void np_futex_wake(_Atomic uint32_t *word, uint32_t bits);

void np_yield(void);
/* How many processors this process may use, as it was when somebody asked first. */
uint32_t np_processors(void);
/* The kernel's number of the calling thread. */
int64_t np_thread_number(void);
/* Whether the calling thread is the process's first one. */
bool np_on_first_thread(void);
/* What this thread has used of the processor (ns), and how often it was taken away from it; costs a system call. */
struct np_usage {
    int64_t cpu, involuntary;
};
struct np_usage np_thread_usage(void);
/* Nanoseconds that this thread has spent asleep in a futex or on a socket. */
extern _Thread_local int64_t np_slept;

static inline void np_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* what `yield` should be: a wait of some tens of cycles */
#endif
}

/* An empty file in memory that can be sealed, under a name for people. -1 and errno on failure. */
int np_memory_create(const char *name);
/* A shared segment of fixed size, sealed against shrinking and growing. -1 and errno on failure. */
int np_segment_create(uint64_t size);
/* Whether `fd` is such a segment; its size, or 0. */
uint64_t np_segment_check(int fd);
void *np_segment_map(int fd, uint64_t size);
void np_segment_unmap(void *map, uint64_t size);
/* Gives the memory behind whole pages of a mapped segment back to the system, for all who have mapped it; the next one
 * who looks there finds zeros. Where that cannot be, nothing happens. */
void np_segment_discard(void *place, uint64_t size);
/* A part of a segment that np_segment_map has mapped, `size` bytes from a page's begin, twice in a row: 2 * size bytes,
 * to be unmapped as a segment is. A forked child has it too. NULL where the system cannot. */
void *np_segment_map_twice(void *part, uint64_t size);
/* A copy of the pages that [place, place + size) stands on, size > 0; `copy` NULL: no memory. Then it may take their
 * place, at their address, which is this process's own from then on; or it is dropped. */
struct np_pages {
    void *copy, *place;
    uint64_t size;
};
struct np_pages np_pages_copy(const void *place, uint64_t size);
bool np_pages_put(struct np_pages *pages);
void np_pages_drop(struct np_pages *pages);
/* ftruncate, which beyond the file-size limit fails (EFBIG) without the signal that would end the process. 0, or an
 * errno. */
int np_file_resize(int fd, uint64_t size);
/* How many descriptors the process may have open, as the limit stands now. */
uint64_t np_descriptor_limit(void);

#endif
