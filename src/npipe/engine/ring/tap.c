#include "ring/tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/codes.h"
#include "base/platform.h"
#include "base/socket.h"

/* One who looks on. Of the memory that it shares with us only `head` and `waits` are ever read, each once, and whatever
 * they say, we write within the ring alone. */
struct np_tracer {
    struct npr_header *shared;
    uint8_t *ring;
    uint64_t size;     /* of the mapping */
    uint64_t capacity;
    uint64_t tail;     /* the truth, of which the shared one is the announcement */
    uint32_t lost;     /* records since the last one that found room */
    uint64_t all_lost;
    uint32_t most;
    int socket;
};

struct np_tap {
    _Atomic uint32_t refs; /* the pipe's, and of each link that was ever traced */
    /* One record at a time, so that they stand in the order in which things happened. A leaf: what is done under it is
     * a copy, and at most a system call that does not wait. */
    pthread_mutex_t lock;
    struct np_tracer *tracers[NP_MOST_TRACERS];
    _Atomic uint32_t n_tracers; /* written under the lock */
};

/* Of those who are told of all links; made with the first one, and never freed. */
static _Atomic(struct np_tap *) of_all;

struct np_tap *np_tap_new(void)
{
    struct np_tap *tap = calloc(1, sizeof *tap);
    if (!tap)
        return NULL;
    atomic_init(&tap->refs, 1);
    pthread_mutex_init(&tap->lock, NULL);
    return tap;
}

static void free_tracer(struct np_tracer *tracer)
{
    np_segment_unmap(tracer->shared, tracer->size);
    free(tracer);
}

void np_tap_unref(struct np_tap *tap)
{
    /* Release and acquire: as of a link. */
    if (!tap || atomic_fetch_sub_explicit(&tap->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < atomic_load_explicit(&tap->n_tracers, memory_order_relaxed); i++)
        free_tracer(tap->tracers[i]);
    pthread_mutex_destroy(&tap->lock);
    free(tap);
}

static bool sound_capacity(uint64_t capacity)
{
    return capacity >= NPR_MIN_RING && capacity <= NPR_MAX_RING && (capacity & (capacity - 1)) == 0;
}

uint32_t np_tap_add(struct np_tap *tap, int fd, int socket, const struct np_trace_options *options,
                    struct np_tracer **result)
{
    uint64_t size = fd < 0 ? 0 : np_segment_check(fd);
    /* The size alone, which is sealed, says how long the ring is: what the header says is compared, once. */
    if (size <= NPR_HEADER_SIZE || !sound_capacity(size - NPR_HEADER_SIZE))
        return NP_INVALID_DATA;
    struct np_tracer *tracer = calloc(1, sizeof *tracer);
    if (!tracer)
        return NP_NOT_ENOUGH_MEMORY;
    tracer->shared = np_segment_map(fd, size);
    if (!tracer->shared) {
        free(tracer);
        return NP_NOT_ENOUGH_MEMORY;
    }
    tracer->size = size;
    tracer->capacity = size - NPR_HEADER_SIZE;
    tracer->ring = (uint8_t *)tracer->shared + NPR_HEADER_SIZE;
    tracer->socket = socket;
    /* No record is longer than a quarter of the ring, so one that finds no room waits for others to be read. */
    uint32_t longest = (uint32_t)(tracer->capacity / 4);
    tracer->most = options->most < longest ? options->most : longest;
    struct npr_header header;
    memcpy(&header, (const void *)tracer->shared, sizeof header);
    uint32_t code = NP_OK;
    if (header.magic != NPR_MAGIC || header.capacity != tracer->capacity)
        code = NP_INVALID_DATA;
    else if (header.version != NPR_VERSION)
        code = NP_REVISION_MISMATCH;
    if (code == NP_OK) {
        pthread_mutex_lock(&tap->lock);
        uint32_t count = atomic_load_explicit(&tap->n_tracers, memory_order_relaxed);
        if (count == NP_MOST_TRACERS) {
            code = NP_PIPE_BUSY;
        } else {
            tap->tracers[count] = tracer;
            atomic_store_explicit(&tap->n_tracers, count + 1, memory_order_relaxed);
        }
        pthread_mutex_unlock(&tap->lock);
    }
    if (code != NP_OK) {
        free_tracer(tracer);
        return code;
    }
    *result = tracer;
    return NP_OK;
}

bool np_tap_remove(struct np_tap *tap, struct np_tracer *tracer)
{
    pthread_mutex_lock(&tap->lock);
    uint32_t count = atomic_load_explicit(&tap->n_tracers, memory_order_relaxed), left = 0;
    for (uint32_t i = 0; i < count; i++)
        if (tap->tracers[i] != tracer)
            tap->tracers[left++] = tap->tracers[i];
    atomic_store_explicit(&tap->n_tracers, left, memory_order_relaxed);
    pthread_mutex_unlock(&tap->lock);
    if (left < count)
        free_tracer(tracer); /* every use of it is under the lock */
    return left == 0;
}

bool np_tap_has_tracers(const struct np_tap *tap)
{
    /* Relaxed: it changes with the process lock held, which the caller has. */
    return tap && atomic_load_explicit(&tap->n_tracers, memory_order_relaxed) > 0;
}

/* Acquire: with the pointer comes what it points to. NULL in a forked child, whose tracers are its parent's. */
static struct np_tap *load_of_all(void)
{
    return atomic_load_explicit(&of_all, memory_order_acquire);
}

struct np_tap *np_tap_of_all(void)
{
    struct np_tap *tap = load_of_all();
    /* Relaxed: a link that is made while the last one goes has a tap of which nobody is told. */
    return tap && atomic_load_explicit(&tap->n_tracers, memory_order_relaxed) ? tap : NULL;
}

uint32_t np_tap_all(int fd, int socket, const struct np_trace_options *options, struct np_tracer **tracer)
{
    struct np_tap *tap = load_of_all();
    if (!tap) {
        struct np_tap *made = np_tap_new();
        if (!made)
            return NP_NOT_ENOUGH_MEMORY;
        /* Release: pairs with load_of_all. Acquire when it fails: another thread has made one. */
        if (atomic_compare_exchange_strong_explicit(&of_all, &tap, made, memory_order_release, memory_order_acquire))
            tap = made;
        else
            np_tap_unref(made);
    }
    return np_tap_add(tap, fd, socket, options, tracer);
}

void np_tap_all_end(struct np_tracer *tracer)
{
    struct np_tap *tap = load_of_all();
    if (tap)
        np_tap_remove(tap, tracer);
}

void np_tap_after_fork(void)
{
    atomic_store_explicit(&of_all, NULL, memory_order_relaxed);
}

void np_tap_link(struct np_link *link, struct np_tap *tap)
{
    if (!tap)
        tap = np_tap_of_all();
    if (tap && tap != load_of_all() && !link->tap_kept) {
        /* Relaxed: the pipe has a reference meanwhile. */
        atomic_fetch_add_explicit(&tap->refs, 1, memory_order_relaxed);
        link->tap_kept = tap;
    }
    /* Release: with the pointer comes what it points to. The link's reference keeps that alive for whoever has loaded
     * the pointer and holds the link, also when it is taken away again. */
    atomic_store_explicit(&link->tap, tap, memory_order_release);
}

static void copy_in(struct np_tracer *tracer, const void *source, uint64_t size)
{
    uint64_t offset = tracer->tail & (tracer->capacity - 1);
    uint64_t until_end = tracer->capacity - offset;
    uint64_t first = size < until_end ? size : until_end;
    memcpy(tracer->ring + offset, source, first);
    if (first < size)
        memcpy(tracer->ring, (const uint8_t *)source + first, size - first);
    tracer->tail += size;
}

static void lose(struct np_tracer *tracer)
{
    if (tracer->lost < UINT32_MAX)
        tracer->lost++;
    /* Relaxed: a number to be shown. */
    atomic_store_explicit(&tracer->shared->lost, ++tracer->all_lost, memory_order_relaxed);
}

/* `content`: two pieces, of which the first `record->captured` bytes are copied. */
static void write_record(struct np_tracer *tracer, struct npr_record record, const uint8_t *const content[2],
                         uint32_t first_piece)
{
    /* What is beyond `most` is not copied; so a long write that comes in pieces is copied up to there. */
    /* (The name of a connection's pipe is. It is shorter than the least ring's quarter.) */
    uint32_t allowed = record.kind != NPR_DATA        ? record.captured
                       : record.offset < tracer->most ? tracer->most - record.offset
                                                      : 0;
    record.captured = record.captured < allowed ? record.captured : allowed;
    record.size = (uint32_t)(sizeof record + record.captured + 7) & ~UINT32_C(7);
    /* Acquire: what the tracer has read comes before the room that it gives back. */
    uint64_t head = atomic_load_explicit(&tracer->shared->head, memory_order_acquire);
    uint64_t used = tracer->tail - head;
    if (used > tracer->capacity || record.size > tracer->capacity - used) {
        lose(tracer); /* also of one that says that it has read what was not written */
        return;
    }
    record.lost = tracer->lost;
    tracer->lost = 0;
    uint64_t end = tracer->tail + record.size;
    copy_in(tracer, &record, sizeof record);
    if (record.captured) {
        uint32_t first = record.captured < first_piece ? record.captured : first_piece;
        copy_in(tracer, content[0], first);
        if (first < record.captured)
            copy_in(tracer, content[1], record.captured - first);
    }
    tracer->tail = end;
    /* Release: the record comes before the tail that covers it. */
    atomic_store_explicit(&tracer->shared->tail, end, memory_order_release);
    /* Full fence, with its twin in the tracer's way to sleep: either we see that it waits, or it sees the tail. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&tracer->shared->waits, memory_order_relaxed)) {
        atomic_store_explicit(&tracer->shared->waits, 0, memory_order_relaxed);
        np_socket_poke(tracer->socket);
    }
}

static int64_t wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * NP_SECOND_NS + now.tv_nsec;
}

static void tell_all(struct np_tap *tap, struct np_tracer *only, struct npr_record record,
                     const uint8_t *const content[2], uint32_t first_piece)
{
    pthread_mutex_lock(&tap->lock);
    record.time = wall_clock(); /* with the lock: it does not go back from record to record */
    for (uint32_t i = 0; i < atomic_load_explicit(&tap->n_tracers, memory_order_relaxed); i++)
        if (!only || only == tap->tracers[i])
            write_record(tap->tracers[i], record, content, first_piece);
    pthread_mutex_unlock(&tap->lock);
}

static void tell(const struct np_link *link, struct np_tracer *only, struct npr_record record,
                 const uint8_t *const content[2], uint32_t first_piece)
{
    /* Acquire: pairs with the release of np_tap_link. */
    struct np_tap *tap = atomic_load_explicit(&link->tap, memory_order_acquire);
    if (!tap)
        return; /* the last tracer has just gone */
    record.connection = link->number;
    record.pid = (uint32_t)link->peer_pid;
    record.flags |= (uint16_t)((link->side == NPL_SERVER ? NPR_SERVER : 0) |
                               (link->type == NP_TYPE_MESSAGE ? NPR_MESSAGE : 0));
    struct np_tap *all = np_tap_of_all();
    tell_all(tap, only, record, content, first_piece);
    if (all && all != tap)
        tell_all(all, only, record, content, first_piece);
}

static const uint8_t *const nothing[2];

void np_tap_event(struct np_link *link, struct np_tracer *tracer, enum npr_kind kind, uint32_t code)
{
    tell(link, tracer, (struct npr_record){.kind = (uint16_t)kind, .code = code}, nothing, 0);
}

void np_tap_opened(struct np_link *link, const char *name, uint32_t size)
{
    const uint8_t *const content[2] = {(const uint8_t *)name, NULL};
    const struct npr_record record = {.kind = NPR_OPENED, .total = size, .length = size, .captured = size};
    tell(link, NULL, record, content, size);
}

void np_tap_moved(struct np_link *link, bool out, uint64_t position, uint32_t size, uint32_t offset, uint32_t total,
                  uint32_t sequence)
{
    const uint8_t *ring = out ? link->tx.ring : link->rx.ring;
    uint64_t capacity = out ? link->tx.capacity : link->rx.capacity;
    uint64_t begin = (position - (out ? link->tx.begin : link->rx.begin)) & (capacity - 1);
    uint64_t until_end = capacity - begin;
    const uint8_t *const content[2] = {ring + begin, ring};
    struct npr_record record = {
        .kind = NPR_DATA,
        .flags = (uint16_t)((out ? NPR_OUT : 0) | (offset == 0 ? NPR_FIRST : 0) |
                            ((uint64_t)offset + size == total ? NPR_LAST : 0)),
        .sequence = sequence,
        .total = total,
        .offset = offset,
        .length = size,
        .captured = size,
    };
    tell(link, NULL, record, content, size < until_end ? size : (uint32_t)until_end);
}

void np_tap_withdrawn(struct np_link *link, bool out, uint32_t offset, uint32_t total, uint32_t sequence, uint32_t code)
{
    struct npr_record record = {
        .kind = NPR_DATA,
        .flags = (uint16_t)((out ? NPR_OUT : 0) | NPR_WITHDRAWN),
        .code = code,
        .sequence = sequence,
        .total = total,
        .offset = offset,
    };
    tell(link, NULL, record, nothing, 0);
}
