/* What a tracer is told, and what a hostile one can do: nothing but lose records (ring/tap.h). */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/platform.h"
#include "pair.h"
#include "ring/record.h"
#include "ring/tap.h"

#define RING NPR_MIN_RING

struct reader {
    int fd, sockets[2];
    struct npr_header *shared;
    const uint8_t *ring;
    uint64_t head;
    struct np_tap *tap;
    struct np_tracer *tracer;
};

static int memory(uint64_t size, int seals)
{
    int fd = memfd_create("trace", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    const struct npr_header header = {.magic = NPR_MAGIC, .version = NPR_VERSION, .capacity = size - NPR_HEADER_SIZE};
    CHECK(pwrite(fd, &header, sizeof header, 0) == (ssize_t)sizeof header);
    CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void begin(struct reader *reader, struct np_tap *tap, uint32_t most)
{
    const struct np_trace_options options = {.most = most};
    memset(reader, 0, sizeof *reader);
    reader->tap = tap;
    reader->fd = memory(NPR_HEADER_SIZE + RING, F_SEAL_SHRINK | F_SEAL_GROW);
    reader->shared = mmap(NULL, NPR_HEADER_SIZE + RING, PROT_READ | PROT_WRITE, MAP_SHARED, reader->fd, 0);
    CHECK(reader->shared != MAP_FAILED);
    reader->ring = (const uint8_t *)reader->shared + NPR_HEADER_SIZE;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reader->sockets) == 0);
    CHECK_EQUAL(np_tap_add(tap, reader->fd, reader->sockets[0], &options, &reader->tracer), NP_OK);
}

static void end(struct reader *reader)
{
    np_tap_remove(reader->tap, reader->tracer);
    munmap(reader->shared, NPR_HEADER_SIZE + RING);
    close(reader->fd);
    close(reader->sockets[0]);
    close(reader->sockets[1]);
}

static void copy(const struct reader *reader, uint64_t position, void *target, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        ((uint8_t *)target)[i] = reader->ring[(position + i) % RING];
}

/* The next record; false: there is none. */
static bool next(struct reader *reader, struct npr_record *record, uint8_t *content)
{
    if (atomic_load(&reader->shared->tail) == reader->head)
        return false;
    copy(reader, reader->head, record, sizeof *record);
    CHECK(record->size >= sizeof *record + record->captured && record->size % 8 == 0);
    copy(reader, reader->head + sizeof *record, content, record->captured);
    reader->head += record->size;
    atomic_store(&reader->shared->head, reader->head);
    return true;
}

static void fill(uint8_t *data, uint32_t size, uint32_t seed)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)((i * 7 + seed * 13) % 251);
}

static void records_are_what_was_sent_in_order_wherever_they_stand(void)
{
    struct pair pair;
    struct reader reader;
    static uint8_t out[9000], in[9000], content[9000];
    open_pair(&pair, NP_TYPE_MESSAGE, 40000);
    struct np_tap *tap = np_tap_new();
    begin(&reader, tap, UINT32_MAX);
    np_tap_link(pair.server.link, tap);
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t size = i * 37 % sizeof out, count;
        struct npr_record record;
        fill(out, size, i);
        CHECK_EQUAL(try_write(&pair.client, out, size), NP_OK);
        CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
        CHECK_EQUAL(try_write(&pair.server, out, size), NP_OK);
        CHECK_EQUAL(np_read(&pair.client, in, sizeof in, &count, &only_try), NP_OK);
        for (uint32_t way = 0; way < 2; way++) {
            CHECK(next(&reader, &record, content));
            CHECK_EQUAL(record.kind, NPR_DATA);
            CHECK_EQUAL(record.flags, NPR_FIRST | NPR_LAST | NPR_SERVER | NPR_MESSAGE | (way ? NPR_OUT : 0));
            CHECK_EQUAL(record.total, size);
            CHECK_EQUAL(record.captured, size);
            CHECK_EQUAL(record.lost, 0);
            CHECK(memcmp(content, out, size) == 0);
        }
        CHECK(!next(&reader, &record, content));
    }
    end(&reader);
    close_pair(&pair);
    np_tap_unref(tap);
}

static void a_full_ring_loses_records_and_counts_them(void)
{
    struct pair pair;
    struct reader reader;
    struct npr_record record;
    uint8_t content[4096], data[1000] = {0};
    uint32_t count, told = 0;
    open_pair(&pair, NP_TYPE_MESSAGE, 40000);
    struct np_tap *tap = np_tap_new();
    begin(&reader, tap, UINT32_MAX);
    np_tap_link(pair.server.link, tap);
    for (int i = 0; i < 200; i++) {
        CHECK_EQUAL(try_write(&pair.client, data, sizeof data), NP_OK);
        CHECK_EQUAL(np_read(&pair.server, content, sizeof content, &count, &only_try), NP_OK);
    }
    while (next(&reader, &record, content)) {
        CHECK_EQUAL(record.lost, 0);
        told++;
    }
    CHECK(told > 10 && told < 200);
    CHECK_EQUAL(atomic_load(&reader.shared->lost), 200 - told);
    CHECK_EQUAL(try_write(&pair.server, data, 1), NP_OK);
    CHECK(next(&reader, &record, content));
    CHECK_EQUAL(record.lost, 200 - told); /* it says so in the first one that finds room */
    end(&reader);
    close_pair(&pair);
    np_tap_unref(tap);
}

static void a_tracer_that_lies_about_what_it_has_read_only_loses(void)
{
    struct pair pair;
    struct reader reader;
    uint8_t data[100] = {0};
    open_pair(&pair, NP_TYPE_MESSAGE, 40000);
    struct np_tap *tap = np_tap_new();
    begin(&reader, tap, UINT32_MAX);
    np_tap_link(pair.server.link, tap);
    const uint64_t lies[] = {1, UINT64_C(1) << 63, RING + 1, 4096};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        atomic_store(&reader.shared->head, atomic_load(&reader.shared->tail) + lies[i]);
        uint64_t tail = atomic_load(&reader.shared->tail);
        CHECK_EQUAL(try_write(&pair.server, data, sizeof data), NP_OK);
        CHECK_EQUAL(atomic_load(&reader.shared->tail), tail);
        CHECK_EQUAL(atomic_load(&reader.shared->lost), i + 1);
    }
    memset((void *)reader.shared, 0xff, NPR_HEADER_SIZE); /* the owner has its own truth */
    CHECK_EQUAL(try_write(&pair.server, data, sizeof data), NP_OK);
    end(&reader);
    close_pair(&pair);
    np_tap_unref(tap);
}

static void memory_that_is_not_as_it_should_be_is_refused(void)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    const struct np_trace_options options = {.most = 100};
    const struct {
        uint64_t size;
        int seals;
    } wrong[] = {
        {NPR_HEADER_SIZE + RING, 0},
        {NPR_HEADER_SIZE + RING, F_SEAL_SHRINK},
        {NPR_HEADER_SIZE + RING, seals | F_SEAL_WRITE},
        {NPR_HEADER_SIZE + RING - 1, seals},
        {NPR_HEADER_SIZE + RING + RING / 2, seals},
        {NPR_HEADER_SIZE + RING / 2, seals},
        {NPR_HEADER_SIZE, seals},
        {64, seals},
        {NPR_HEADER_SIZE + 2 * NPR_MAX_RING, seals},
    };
    struct np_tap *tap = np_tap_new();
    struct np_tracer *tracer;
    CHECK_EQUAL(np_tap_add(tap, -1, -1, &options, &tracer), NP_INVALID_DATA);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int fd = memory(wrong[i].size, wrong[i].seals);
        CHECK_EQUAL(np_tap_add(tap, fd, -1, &options, &tracer), NP_INVALID_DATA);
        close(fd);
    }
    for (int field = 0; field < 3; field++) {
        int fd = memory(NPR_HEADER_SIZE + RING, seals);
        CHECK(pwrite(fd, "x", 1, field == 0 ? 0 : field == 1 ? 4 : 8) == 1);
        CHECK_EQUAL(np_tap_add(tap, fd, -1, &options, &tracer), field == 1 ? NP_REVISION_MISMATCH : NP_INVALID_DATA);
        close(fd);
    }
    struct reader readers[NP_MOST_TRACERS];
    for (int i = 0; i < NP_MOST_TRACERS; i++)
        begin(&readers[i], tap, 100);
    int fd = memory(NPR_HEADER_SIZE + RING, seals);
    CHECK_EQUAL(np_tap_add(tap, fd, -1, &options, &tracer), NP_PIPE_BUSY);
    close(fd);
    for (int i = 0; i < NP_MOST_TRACERS; i++)
        end(&readers[i]);
    CHECK(!np_tap_has_tracers(tap));
    np_tap_unref(tap);
}

static void a_write_that_is_withdrawn_is_told_of_in_parts_and_then_as_withdrawn(void)
{
    struct pair pair;
    struct reader reader;
    struct npr_record record;
    static uint8_t data[200000], content[200000];
    uint32_t count, put = 0;
    fill(data, sizeof data, 1);
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    struct np_tap *tap = np_tap_new();
    begin(&reader, tap, 64);
    np_tap_link(pair.server.link, tap);
    const struct np_wait soon = for_ms(10);
    CHECK_EQUAL(np_write(&pair.server, data, sizeof data, &count, &soon), NP_SEM_TIMEOUT);
    CHECK(next(&reader, &record, content));
    CHECK_EQUAL(record.flags, NPR_OUT | NPR_FIRST | NPR_SERVER | NPR_MESSAGE);
    CHECK_EQUAL(record.total, sizeof data);
    CHECK_EQUAL(record.captured, 64);
    CHECK(memcmp(content, data, 64) == 0);
    for (put = record.length; next(&reader, &record, content) && !(record.flags & NPR_WITHDRAWN);
         put += record.length) {
        CHECK_EQUAL(record.offset, put);
        CHECK_EQUAL(record.captured, 0);
    }
    CHECK_EQUAL(record.flags, NPR_OUT | NPR_WITHDRAWN | NPR_SERVER | NPR_MESSAGE);
    CHECK_EQUAL(record.code, NP_OPERATION_ABORTED);
    CHECK(!next(&reader, &record, content));
    end(&reader);
    close_pair(&pair);
    np_tap_unref(tap);
}

/* ---- Tracers that come and go while the ends are busy */

#define MESSAGES 20000

static void *write_all(void *handle)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t count;
        CHECK_EQUAL(np_write(handle, &i, sizeof i, &count, &for_ever), NP_OK);
    }
    return NULL;
}

static void *read_all(void *handle)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t got, count;
        CHECK_EQUAL(np_read(handle, &got, sizeof got, &count, &for_ever), NP_OK);
        CHECK_EQUAL(got, i);
    }
    return NULL;
}

static void tracers_come_and_go_while_both_sides_are_busy(void)
{
    struct pair pair;
    pthread_t threads[4];
    open_pair(&pair, NP_TYPE_MESSAGE, 4096);
    struct np_tap *tap = np_tap_new();
    pthread_create(&threads[0], NULL, write_all, &pair.client);
    pthread_create(&threads[1], NULL, read_all, &pair.server);
    pthread_create(&threads[2], NULL, write_all, &pair.server);
    pthread_create(&threads[3], NULL, read_all, &pair.client);
    for (int i = 0; i < 100; i++) {
        struct reader reader;
        uint32_t expected[2] = {0, 0};
        bool known[2] = {false, false};
        begin(&reader, tap, 4);
        np_tap_link(pair.server.link, tap);
        for (int looks = 0; looks < 200; looks++) {
            struct npr_record record;
            uint32_t value;
            uint8_t content[64];
            if (!next(&reader, &record, content)) {
                np_yield();
                continue;
            }
            int way = record.flags & NPR_OUT ? 1 : 0;
            CHECK(record.captured == 4 && record.lost == 0);
            memcpy(&value, content, 4);
            CHECK(!known[way] || value == expected[way]);
            known[way] = true;
            expected[way] = value + 1;
        }
        if (np_tap_remove(tap, reader.tracer))
            np_tap_link(pair.server.link, NULL);
        munmap(reader.shared, NPR_HEADER_SIZE + RING);
        close(reader.fd);
        close(reader.sockets[0]);
        close(reader.sockets[1]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    close_pair(&pair);
    np_tap_unref(tap);
}

static void who_waits_gets_a_byte_and_who_does_not_gets_none(void)
{
    struct pair pair;
    struct reader reader;
    uint8_t byte;
    open_pair(&pair, NP_TYPE_MESSAGE, 4096);
    struct np_tap *tap = np_tap_new();
    begin(&reader, tap, 4);
    np_tap_link(pair.server.link, tap);
    CHECK_EQUAL(try_write(&pair.server, "a", 1), NP_OK);
    CHECK(recv(reader.sockets[1], &byte, 1, MSG_DONTWAIT) < 0);
    atomic_store(&reader.shared->waits, 1);
    CHECK_EQUAL(try_write(&pair.server, "a", 1), NP_OK);
    CHECK_EQUAL(try_write(&pair.server, "a", 1), NP_OK);
    CHECK(recv(reader.sockets[1], &byte, 1, MSG_DONTWAIT) == 1);
    CHECK(recv(reader.sockets[1], &byte, 1, MSG_DONTWAIT) < 0);
    end(&reader);
    close_pair(&pair);
    np_tap_unref(tap);
}

static bool is_recorded(void)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        found = found || strstr(line, "memfd:trace");
    fclose(maps);
    return found;
}

/* The child's own may stand where the parent's stood, of which the child has only the address. */
static void a_child_that_records_itself_does_so_whatever_becomes_of_its_parents_recorder(void)
{
    const struct np_trace_options options = {.most = 4};
    int fd = memory(NPR_HEADER_SIZE + RING, F_SEAL_SHRINK | F_SEAL_GROW), status;
    struct np_tracer *parents, *own;
    CHECK_EQUAL(np_tap_all(fd, -1, &options, &parents), NP_OK);
    pid_t child = fork();
    if (child == 0) {
        np_tap_after_fork();
        np_tap_all_end(parents);
        if (is_recorded() || np_tap_all(fd, -1, &options, &own) != NP_OK)
            _exit(2);
        np_tap_all_end(parents);
        if (!is_recorded())
            _exit(1);
        np_tap_all_end(own);
        _exit(is_recorded() ? 3 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    np_tap_all_end(parents);
    CHECK(!is_recorded() && !np_tap_of_all());
    close(fd);
}

int main(void)
{
    RUN(records_are_what_was_sent_in_order_wherever_they_stand);
    RUN(a_full_ring_loses_records_and_counts_them);
    RUN(a_tracer_that_lies_about_what_it_has_read_only_loses);
    RUN(memory_that_is_not_as_it_should_be_is_refused);
    RUN(a_write_that_is_withdrawn_is_told_of_in_parts_and_then_as_withdrawn);
    RUN(who_waits_gets_a_byte_and_who_does_not_gets_none);
    RUN(a_child_that_records_itself_does_so_whatever_becomes_of_its_parents_recorder);
    RUN(tracers_come_and_go_while_both_sides_are_busy);
    return 0;
}
