/* Channels: content from threads that share an end, and an end whose memory somebody else scribbles into. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "engine.h"

#include "check.h"

struct ends {
    struct np_channel first, second;
    int fds[5];
};

static void make(struct ends *ends)
{
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0);
    int segment = np_segment_create(NPC_SIZE);
    int events[2] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};
    CHECK(segment >= 0 && events[0] >= 0 && events[1] >= 0);
    CHECK_EQUAL(np_channel_attach(&ends->first, segment, sockets[0], events[0], events[1], 0), NP_OK);
    CHECK_EQUAL(np_channel_attach(&ends->second, segment, sockets[1], events[0], events[1], 1), NP_OK);
    memcpy(ends->fds, (int[]){sockets[0], sockets[1], events[0], events[1], segment}, sizeof ends->fds);
}

static void end(struct ends *ends)
{
    np_channel_detach(&ends->first);
    np_channel_detach(&ends->second);
    for (int i = 0; i < 4; i++)
        if (ends->fds[i] >= 0)
            close(ends->fds[i]);
    np_fd_close(ends->fds[4]);
}

static const struct np_wait for_ever = {.deadline = NP_FOREVER};

#define MESSAGES 300
#define LONGEST 700000

static size_t size_of(unsigned number)
{
    return number % 16 == 15 ? LONGEST - number : number % 16 * 1201;
}

static void *write_all(void *argument)
{
    struct np_channel *channel = argument;
    unsigned char *data = malloc(LONGEST);
    for (unsigned i = 0; i < MESSAGES; i++) {
        size_t size = size_of(i);
        fill_pattern(data, size, i);
        struct np_part parts[3] = {{&i, sizeof i}, {data, size / 3}, {data + size / 3, size - size / 3}};
        CHECK_EQUAL(np_channel_send(channel, i & 1 ? NPC_BUFFERS : 0, parts, 3, &for_ever), NP_OK);
    }
    free(data);
    return NULL;
}

static _Atomic unsigned left;

static void *read_all(void *argument)
{
    struct np_channel *channel = argument;
    unsigned char *data = malloc(LONGEST), *expected = malloc(LONGEST);
    uint64_t size, flags, taken;
    while (atomic_fetch_sub(&left, 1) > 0) {
        unsigned number;
        CHECK_EQUAL(np_channel_begin(channel, &for_ever, &size, &flags), NP_OK);
        CHECK_EQUAL(np_channel_take(channel, &number, sizeof number, &taken, &for_ever), NP_OK);
        CHECK(number < MESSAGES);
        CHECK_EQUAL(size, sizeof number + size_of(number));
        CHECK_EQUAL(flags, number & 1 ? NPC_BUFFERS : 0);
        CHECK_EQUAL(np_channel_take(channel, data, size_of(number), &taken, &for_ever), NP_OK);
        CHECK_EQUAL(np_channel_end(channel, false), NP_OK);
        fill_pattern(expected, size_of(number), number);
        CHECK(memcmp(data, expected, size_of(number)) == 0);
        if (atomic_load(&left) > 4 * MESSAGES)
            break;
    }
    free(data);
    free(expected);
    return NULL;
}

static void messages_of_two_writers_reach_one_reader_whole(void)
{
    struct ends ends;
    make(&ends);
    left = 2 * MESSAGES;
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, write_all, &ends.first);
    pthread_create(&threads[1], NULL, write_all, &ends.first);
    pthread_create(&threads[2], NULL, read_all, &ends.second);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    const struct np_wait none = {.deadline = NP_TRY};
    CHECK_EQUAL(np_channel_poll(&ends.second, &none), NP_SEM_TIMEOUT);
    end(&ends);
}

static void what_does_not_fit_is_not_begun(void)
{
    struct ends ends;
    make(&ends);
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char data[10000] = {1};
    struct np_part part = {data, sizeof data};
    unsigned sent = 0;
    while (np_channel_send(&ends.first, 0, &part, 1, &none) == NP_OK)
        sent++;
    CHECK_EQUAL(sent, NPC_RING / 10008);
    uint64_t size, flags, taken;
    for (unsigned i = 0; i < sent; i++) {
        CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
        CHECK_EQUAL(size, sizeof data);
        CHECK_EQUAL(np_channel_take(&ends.second, data, size, &taken, &none), NP_OK);
        CHECK_EQUAL(np_channel_end(&ends.second, false), NP_OK);
    }
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_WOULD_WAIT);
    close(ends.fds[0]);
    ends.fds[0] = -1;
    CHECK_EQUAL(np_channel_begin(&ends.second, &for_ever, &size, &flags), NP_NO_DATA);
    np_channel_going(&ends.first);
    CHECK_EQUAL(np_channel_send(&ends.second, 0, &part, 1, &for_ever), NP_NO_DATA);
    end(&ends);
}

/* A writer, step by step: so much more of a message is published. */
static void publish(struct np_channel *channel, const void *data, uint64_t size)
{
    uint64_t tail = atomic_load(&channel->out->tail);
    CHECK((tail & (NPC_RING - 1)) + size <= NPC_RING);
    memcpy(channel->out_ring + (tail & (NPC_RING - 1)), data, size);
    atomic_store(&channel->out->tail, tail + size);
}

/* Its reader gives the message up, and the writer, which has not noticed, goes on with what looks like messages. */
static void nothing_of_a_message_that_was_dropped_is_taken_for_one(void)
{
    struct ends ends;
    make(&ends);
    struct np_channel other; /* somebody else's hold of the reading end */
    CHECK_EQUAL(np_channel_attach(&other, ends.fds[4], ends.fds[1], ends.fds[2], ends.fds[3], 1), NP_OK);
    uint64_t body[4096], size, flags, taken, whole = 3 * sizeof body;
    for (unsigned i = 0; i < 4096; i += 2)
        body[i] = 5, body[i + 1] = UINT64_C(0x212121214c495645);
    const struct np_wait none = {.deadline = NP_TRY};
    unsigned char data[20000];
    publish(&ends.first, &whole, sizeof whole);
    publish(&ends.first, body, sizeof body);
    CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_OK);
    CHECK_EQUAL(size, whole);
    CHECK_EQUAL(np_channel_take(&ends.second, data, sizeof data, &taken, &none), NP_OK);
    CHECK(memcmp(data, body, sizeof data) == 0);
    CHECK_EQUAL(np_channel_end(&ends.second, false), NP_INVALID_DATA);
    for (unsigned i = 0; i < 2; i++) {
        publish(&ends.first, body, sizeof body);
        CHECK_EQUAL(np_channel_begin(&other, &none, &size, &flags), NP_BROKEN_PIPE);
        CHECK_EQUAL(np_channel_begin(&ends.second, &none, &size, &flags), NP_BROKEN_PIPE);
        CHECK_EQUAL(np_channel_poll(&other, &none), NP_OK);
    }
    /* Nor when a writer finds out that one before it has died, and breaks off on its part. */
    atomic_store(&ends.first.out->mid, 1);
    atomic_store(&ends.first.out->writer, UINT64_C(0x7fffffff) << 32 | 1);
    struct np_part part = {data, 8};
    CHECK_EQUAL(np_channel_send(&ends.first, 0, &part, 1, &for_ever), NP_BROKEN_PIPE);
    CHECK_EQUAL(np_channel_begin(&other, &none, &size, &flags), NP_BROKEN_PIPE);
    np_channel_detach(&other);
    end(&ends);
}

/* Whatever stands in the segment: every call ends by its deadline, and touches nothing else. */
static void nonsense_in_the_segment_does_no_harm(void)
{
    uint64_t random = 88172645463325252u;
    for (int turn = 0; turn < 300; turn++) {
        struct ends ends;
        make(&ends);
        unsigned char *data = calloc(1, 40000);
        struct np_part part = {data, 40000};
        for (int step = 0; step < 40; step++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            struct npc_direction *direction = random & 1 ? ends.first.out : ends.first.in;
            uint64_t value = random >> 20;
            switch (random >> 8 & 7) {
            case 0:
                direction->tail = value & 4 ? direction->tail + (value & 0xfff8) : value;
                break;
            case 1:
                direction->head = value & 4 ? direction->head + (value & 0xfff8) : value;
                break;
            case 2:
                direction->wants_room = value;
                break;
            case 3:
                direction->sleepers = (uint32_t)value;
                break;
            case 4:
                direction->polled = (uint32_t)value;
                break;
            case 5:
                direction->broken = (uint32_t)value & 1;
                break;
            case 6:
                memcpy((unsigned char *)direction + NPC_PAGE + (value & 0x3fff8), &random, 8);
                break;
            default:
                direction->rung = (uint32_t)value & 1;
                break;
            }
            const struct np_wait soon = {.deadline = np_now() + 200000};
            uint64_t size, flags, taken;
            (void)np_channel_send(&ends.second, 0, &part, 1, &soon);
            if (np_channel_begin(&ends.second, &soon, &size, &flags) == NP_OK) {
                (void)np_channel_take(&ends.second, data, size < 40000 ? size : 40000, &taken, &soon);
                (void)np_channel_end(&ends.second, (random >> 30) & 1);
            }
            (void)np_channel_poll(&ends.second, &soon);
        }
        free(data);
        end(&ends);
    }
}

static void only_a_channel_is_taken_for_one(void)
{
    struct np_channel channel;
    int small = np_segment_create(NPC_SIZE - 4096);
    CHECK_EQUAL(np_channel_attach(&channel, small, -1, -1, -1, 0), NP_INVALID_DATA);
    np_fd_close(small);
    int open = memfd_create("unsealed", MFD_ALLOW_SEALING);
    CHECK(ftruncate(open, NPC_SIZE) == 0);
    CHECK_EQUAL(np_channel_attach(&channel, open, -1, -1, -1, 0), NP_INVALID_DATA);
    close(open);
}

int main(void)
{
    RUN(messages_of_two_writers_reach_one_reader_whole);
    RUN(what_does_not_fit_is_not_begun);
    RUN(nothing_of_a_message_that_was_dropped_is_taken_for_one);
    RUN(nonsense_in_the_segment_does_no_harm);
    RUN(only_a_channel_is_taken_for_one);
    return 0;
}
