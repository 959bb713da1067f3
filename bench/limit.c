/* The practical limit: the same engine between two processes, without Python.
 *
 *   limit rtt SIZE COUNT     prints the nanoseconds of one round trip
 *   limit oneway SIZE COUNT  prints the nanoseconds of one message; the receiver acknowledges the last one
 *   limit line 0 COUNT       prints the nanoseconds that a word in shared memory takes to and fro, in a cache line for
 *                            each way and nothing else: what no round trip of two processes on two cores can do without
 *   limit lines SIZE COUNT   prints the nanoseconds that SIZE bytes take there and back, copied in and copied out at each
 *                            end, with a word for each way that hands them over: the same for a message of some lines
 *   limit copy SIZE COUNT    prints the nanoseconds that SIZE bytes take through shared memory, copied in and copied
 *                            out, and nothing else: what no messages in a row can do without
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

/* The ring is walked through, as it is quicker than to use the same lines again at once, and each message begins in a
 * line of its own. As large as the engine's: four quotas. */
#define LINES_RING (4u * QUOTA)

struct lines_ring {
    _Alignas(128) _Atomic long word;
    _Alignas(4096) uint8_t ring[LINES_RING];
};

static uint8_t *place_of(struct lines_ring *way, uint32_t size, long i)
{
    uint64_t stride = (size + 63) / 64 * 64;
    return way->ring + (uint64_t)i % (LINES_RING / stride) * stride;
}

static void lines_out(struct lines_ring *way, uint8_t *target, uint32_t size, long i)
{
    await_word(&way->word, i);
    memcpy(target, place_of(way, size, i), size);
}

static void lines_in(struct lines_ring *way, const uint8_t *source, uint32_t size, long i)
{
    np_copy_over(place_of(way, size, i), source, size);
    atomic_store_explicit(&way->word, i, memory_order_release);
}

static int exchange_messages(uint32_t size, long count)
{
    struct lines_ring *ways = mmap(NULL, 2 * sizeof *ways, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *buffer = malloc(size);
    if (ways == MAP_FAILED || !buffer || size == 0 || size > LINES_RING / 2)
        return 1;
    memset(buffer, 'x', size);
    pid_t other = fork();
    if (other == 0) {
        bind_to(1);
        for (long i = 1; i <= count; i++) {
            lines_out(&ways[0], buffer, size, i);
            lines_in(&ways[1], buffer, size, i);
        }
        _exit(0);
    }
    bind_to(0);
    int64_t began = np_now();
    for (long i = 1; other > 0 && i <= count; i++) {
        lines_in(&ways[0], buffer, size, i);
        lines_out(&ways[1], buffer, size, i);
    }
    int64_t took = np_now() - began;
    int status = 1;
    waitpid(other, &status, 0);
    printf("%.1f\n", (double)took / (double)count);
    return status == 0 ? 0 : 1;
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

static int is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"rtt", "oneway", "line", "lines", "copy"};
    size_t mode = 0, n_modes = sizeof modes / sizeof *modes;
    while (argc == 4 && mode < n_modes && !is(argv[1], modes[mode]))
        mode++;
    if (argc != 4 || mode == n_modes) {
        fprintf(stderr, "usage: limit rtt|oneway|line|lines|copy SIZE COUNT\n");
        return 2;
    }
    if (is(argv[1], "line"))
        return exchange_lines(strtol(argv[3], NULL, 10));
    if (is(argv[1], "lines"))
        return exchange_messages((uint32_t)strtoul(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
    if (is(argv[1], "copy"))
        return copy((uint32_t)strtoul(argv[2], NULL, 10), strtol(argv[3], NULL, 10));
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
