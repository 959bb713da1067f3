/* The practical limit: the same engine between two processes, without Python.
 *
 *   limit rtt SIZE COUNT     prints the nanoseconds of one round trip
 *   limit oneway SIZE COUNT  prints the nanoseconds of one message; the receiver acknowledges the last one
 *   limit line 0 COUNT       prints the nanoseconds that a word in shared memory takes to and fro, in a cache line for
 *                            each way and nothing else: what no round trip of two processes on two cores can do without
 *   limit lines SIZE COUNT   prints the nanoseconds that SIZE bytes, copied in and copied out for each way, take to and
 *                            fro with such a word: what no round trip of messages of that size can do without
 *   limit copy SIZE COUNT    prints the nanoseconds that SIZE bytes take through shared memory, copied in and copied
 *                            out, and nothing else: what no messages in a row can do without
 *   limit hand SIZE COUNT    prints the nanoseconds that it takes to hand over SIZE bytes in shared memory, with a
 *                            number at both ends that is written there and read here, and nothing else: the least
 *                            that messages in place can take
 *   limit crowd N MS         prints the nanoseconds of one round trip of 64 bytes, of N clients together: threads of
 *                            four processes, against a server with as many threads; and what the least served client
 *                            got, of the mean. For MS milliseconds.
 *   limit crowd-sockets N MS the same of SOCK_SEQPACKET sockets, and nothing else
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/copy.h"
#include "crowd.h"
#include "engine.h"

#define QUOTA 65536

static const struct np_wait for_ever = {.deadline = NP_FOREVER};

static void check(uint32_t code, const char *what)
{
    if (code == NP_OK)
        return;
    fprintf(stderr, "limit: %s: code %u\n", what, code);
    exit(1);
}

static void put(struct np_handle *handle, const void *data, uint32_t size)
{
    uint32_t count;
    check(np_write(handle, data, size, &count, &for_ever), "write");
}

static uint32_t get(struct np_handle *handle, void *buffer, uint32_t size)
{
    uint32_t count;
    check(np_read(handle, buffer, size, &count, &for_ever), "read");
    return count;
}

static int serve(const struct np_where *where, int ready, uint32_t size, long count, int round_trips)
{
    struct np_create_options options = {
        .access = NP_ACCESS_DUPLEX,
        .first_instance = true,
        .type = NP_TYPE_MESSAGE,
        .mode = NP_MODE_READ_MESSAGE,
        .max_instances = 1,
        .out_quota = QUOTA,
        .in_quota = QUOTA,
        .rule = {.allowed = NP_READ | NP_WRITE},
    };
    struct np_handle *handle;
    char why[NP_WHY_SIZE] = "";
    check(np_create(where, &options, &handle, why), why);
    if (write(ready, "", 1) != 1)
        return 1;
    uint32_t code = np_connect(handle, &for_ever);
    if (code != NP_PIPE_CONNECTED)
        check(code, "connect");
    uint8_t *buffer = malloc(size);
    for (long i = 0; i < count; i++) {
        get(handle, buffer, size);
        if (round_trips)
            put(handle, buffer, size);
    }
    if (!round_trips)
        put(handle, "done", 4);
    check(np_flush(handle, &for_ever), "flush");
    np_close(handle, false);
    free(buffer);
    return 0;
}

static double dial(const struct np_where *where, uint32_t size, long count, int round_trips)
{
    struct np_open_options options = {
        .access = NP_READ | NP_WRITE | NP_WRITE_ATTRIBUTES, .hold = true, .verify_owner = true};
    struct np_handle *handle;
    char why[NP_WHY_SIZE] = "";
    check(np_open(where, &options, &for_ever, &handle, why), why);
    check(np_set_state(handle, NP_MODE_READ_MESSAGE), "set state");
    uint8_t *buffer = malloc(size < 4 ? 4 : size);
    memset(buffer, 'x', size);
    int64_t began = np_now();
    for (long i = 0; i < count; i++) {
        put(handle, buffer, size);
        if (round_trips)
            get(handle, buffer, size);
    }
    if (!round_trips)
        get(handle, buffer, 4);
    int64_t took = np_now() - began;
    np_close(handle, false);
    free(buffer);
    return (double)took / (double)count;
}

struct lines {
    _Alignas(128) _Atomic long there;
    _Alignas(128) _Atomic long back;
};

static void await_word(_Atomic long *word, long value)
{
    while (atomic_load_explicit(word, memory_order_acquire) != value)
        ;
}

/* The first or the last of the processors that this process may use: two that wait for each other like this need one
 * each. */
static void bind_to(int last)
{
    cpu_set_t may, chosen;
    CPU_ZERO(&chosen);
    if (sched_getaffinity(0, sizeof may, &may) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && (last || CPU_COUNT(&chosen) == 0)) {
            CPU_ZERO(&chosen);
            CPU_SET(cpu, &chosen);
        }
    sched_setaffinity(0, sizeof chosen, &chosen);
}

static int exchange_lines(long count)
{
    struct lines *lines = mmap(NULL, sizeof *lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (lines == MAP_FAILED)
        return 1;
    pid_t other = fork();
    if (other == 0) {
        bind_to(1);
        for (long i = 1; i <= count; i++) {
            await_word(&lines->there, i);
            atomic_store_explicit(&lines->back, i, memory_order_release);
        }
        _exit(0);
    }
    bind_to(0);
    int64_t began = np_now();
    for (long i = 1; other > 0 && i <= count; i++) {
        atomic_store_explicit(&lines->there, i, memory_order_release);
        await_word(&lines->back, i);
    }
    int64_t took = np_now() - began;
    int status = 1;
    waitpid(other, &status, 0);
    printf("%.1f\n", (double)took / (double)count);
    return status == 0 ? 0 : 1;
}

/* The quickest exchange that is known, since it is to be a floor (docs/performance.md): each message stands in lines
 * that were not used for a while, as in a ring of four quotas, begins in a line of its own, and is written in ordinary
 * stores. */
#define WAY_SIZE ((size_t)QUOTA * 4)

struct exchange {
    struct lines lines;
    _Alignas(4096) uint8_t bytes[];
};

static uint8_t *place_of(uint8_t *way, size_t size, long i)
{
    size_t whole = (size + 63) / 64 * 64, places = size < WAY_SIZE ? WAY_SIZE / whole : 1;
    return way + (size_t)i % places * whole;
}

static int exchange_bytes(size_t size, long count)
{
    size_t apart = (size + WAY_SIZE + 4095) & ~(size_t)4095;
    struct exchange *shared = mmap(NULL, sizeof *shared + 2 * apart, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                                   -1, 0);
    uint8_t *own = malloc(size), *sent = malloc(size);
    if (shared == MAP_FAILED || !own || !sent || size == 0 || size > UINT32_MAX)
        return 1;
    uint8_t *there = shared->bytes, *back = shared->bytes + apart;
    for (size_t i = 0; i < size; i++)
        sent[i] = (uint8_t)(i * 7 + 1);
    pid_t other = fork();
    if (other == 0) {
        bind_to(1);
        for (long i = 1; i <= count; i++) {
            await_word(&shared->lines.there, i);
            memcpy(own, place_of(there, size, i), size);
            np_copy_over(place_of(back, size, i), own, (uint32_t)size);
            atomic_store_explicit(&shared->lines.back, i, memory_order_release);
        }
        _exit(0);
    }
    bind_to(0);
    int64_t began = np_now();
    for (long i = 1; other > 0 && i <= count; i++) {
        np_copy_over(place_of(there, size, i), sent, (uint32_t)size);
        atomic_store_explicit(&shared->lines.there, i, memory_order_release);
        await_word(&shared->lines.back, i);
        memcpy(own, place_of(back, size, i), size);
    }
    int64_t took = np_now() - began;
    int status = 1;
    waitpid(other, &status, 0);
    printf("%.1f\n", (double)took / (double)count);
    return status == 0 && memcmp(own, sent, size) == 0 ? 0 : 1;
}

#define COPY_RING (1u << 20)
#define COPY_PIECE (1u << 15)

struct copying {
    struct lines lines;
    _Alignas(128) uint8_t ring[COPY_RING];
};

static uint32_t piece_of(uint32_t left)
{
    return left < COPY_PIECE ? left : COPY_PIECE;
}

static void copy_out(struct copying *copying, uint8_t *target, uint32_t size, long count)
{
    long head = 0;
    for (long i = 0; i < count; i++)
        for (uint32_t done = 0, piece; done < size; done += piece, head++) {
            piece = piece_of(size - done);
            while (atomic_load_explicit(&copying->lines.there, memory_order_acquire) == head)
                ;
            memcpy(target + done, copying->ring + head * COPY_PIECE % COPY_RING, piece);
            atomic_store_explicit(&copying->lines.back, head + 1, memory_order_release);
        }
}

static void copy_in(struct copying *copying, const uint8_t *source, uint32_t size, long count)
{
    long tail = 0;
    for (long i = 0; i < count; i++)
        for (uint32_t done = 0, piece; done < size; done += piece, tail++) {
            piece = piece_of(size - done);
            while (tail - atomic_load_explicit(&copying->lines.back, memory_order_acquire) == COPY_RING / COPY_PIECE)
                ;
            memcpy(copying->ring + tail * COPY_PIECE % COPY_RING, source + done, piece);
            atomic_store_explicit(&copying->lines.there, tail + 1, memory_order_release);
        }
    await_word(&copying->lines.back, tail);
}

static int copy(uint32_t size, long count)
{
    struct copying *copying = mmap(NULL, sizeof *copying, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *buffer = malloc(size);
    if (copying == MAP_FAILED || !buffer)
        return 1;
    memset(buffer, 'x', size);
    pid_t other = fork();
    if (other == 0) {
        bind_to(1);
        copy_out(copying, buffer, size, count);
        _exit(0);
    }
    bind_to(0);
    int64_t began = np_now();
    if (other > 0)
        copy_in(copying, buffer, size, count);
    int64_t took = np_now() - began;
    int status = 1;
    waitpid(other, &status, 0);
    printf("%.1f\n", (double)took / (double)count);
    return status == 0 ? 0 : 1;
}

/* As many slots as a reader may be behind; each is far from the next, as messages of this size are. */
#define HAND_SLOTS 4

struct handing {
    struct lines lines;
    _Alignas(4096) uint8_t slots[];
};

static int hand_over(size_t size, long count)
{
    size_t apart = (size + 4095) & ~(size_t)4095;
    size_t all = sizeof(struct handing) + HAND_SLOTS * apart;
    struct handing *handing = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (handing == MAP_FAILED || size < 16)
        return 1;
    pid_t other = fork();
    if (other == 0) {
        bind_to(1);
        for (long i = 0; i < count; i++) {
            while (atomic_load_explicit(&handing->lines.there, memory_order_acquire) <= i)
                ;
            const uint8_t *slot = handing->slots + (size_t)(i % HAND_SLOTS) * apart;
            long first, last;
            memcpy(&first, slot, sizeof first);
            memcpy(&last, slot + size - sizeof last, sizeof last);
            if (first != i || last != i)
                _exit(1);
            atomic_store_explicit(&handing->lines.back, i + 1, memory_order_release);
        }
        _exit(0);
    }
    bind_to(0);
    int64_t began = np_now();
    for (long i = 0; other > 0 && i < count; i++) {
        while (i - atomic_load_explicit(&handing->lines.back, memory_order_acquire) == HAND_SLOTS)
            ;
        uint8_t *slot = handing->slots + (size_t)(i % HAND_SLOTS) * apart;
        memcpy(slot, &i, sizeof i);
        memcpy(slot + size - sizeof i, &i, sizeof i);
        atomic_store_explicit(&handing->lines.there, i + 1, memory_order_release);
    }
    if (other > 0)
        await_word(&handing->lines.back, count);
    int64_t took = np_now() - began;
    int status = 1;
    waitpid(other, &status, 0);
    printf("%.1f\n", (double)took / (double)count);
    return status == 0 ? 0 : 1;
}

static int is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

int main(int argc, char **argv)
{
    if (argc != 4 ||
        !(is(argv[1], "rtt") || is(argv[1], "oneway") || is(argv[1], "line") || is(argv[1], "lines") ||
          is(argv[1], "copy") || is(argv[1], "hand") || is(argv[1], "crowd") || is(argv[1], "crowd-sockets"))) {
        fprintf(stderr, "usage: limit rtt|oneway|line|lines|copy|hand|crowd|crowd-sockets SIZE COUNT\n");
        return 2;
    }
    if (strncmp(argv[1], "crowd", 5) == 0)
        return measure_crowd(atoi(argv[2]), strtol(argv[3], NULL, 10), !is(argv[1], "crowd"));
    if (is(argv[1], "line"))
        return exchange_lines(strtol(argv[3], NULL, 10));
    if (is(argv[1], "copy"))
        return copy((uint32_t)strtoul(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
    if (is(argv[1], "lines"))
        return exchange_bytes(strtoul(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
    if (is(argv[1], "hand"))
        return hand_over(strtoul(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
    int round_trips = is(argv[1], "rtt");
    uint32_t size = (uint32_t)strtoul(argv[2], NULL, 10);
    long count = strtol(argv[3], NULL, 10);
    char root[] = "/tmp/npipe-limit-XXXXXX";
    int ready[2];
    char byte;
    if (!mkdtemp(root) || pipe(ready) != 0)
        return 1;
    struct np_where where = {.root = root, .folder = "LIMIT", .display = "limit"};
    pid_t server = fork();
    if (server == 0)
        exit(serve(&where, ready[1], size, count, round_trips));
    close(ready[1]);
    int status = 1;
    if (server > 0 && read(ready[0], &byte, 1) == 1)
        printf("%.1f\n", dial(&where, size, count, round_trips));
    waitpid(server, &status, 0);
    rmdir(root);
    return status == 0 ? 0 : 1;
}
