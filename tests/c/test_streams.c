/* Byte streams: every byte says where it stands, and is compared. A read that gives nothing has consumed nothing,
 * whatever it asked for and whatever ended it. For the thread sanitizer too. */
#include <sched.h>

#include "handle/step.h"
#include "ring/idle.h"
#include "pair.h"

#define ROOM 400000u

static unsigned char byte_at(uint64_t position)
{
    return (unsigned char)(position ^ position >> 8 ^ position >> 16 ^ position >> 24);
}

static void fill(unsigned char *data, uint64_t position, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = byte_at(position + i);
}

static void compare(const unsigned char *data, uint64_t position, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        CHECK_EQUAL(data[i], byte_at(position + i));
}

struct job {
    struct np_handle *handle;
    unsigned long long random;
    uint64_t total;
    const uint32_t *sizes; /* of writes, or of reads; 0 ends the list: up to the one before at random */
    int how;
};

static uint32_t next_size(struct job *job)
{
    uint32_t count = 0;
    while (job->sizes[count])
        count++;
    uint32_t choice = next_random(&job->random) % (count + 1);
    return choice < count ? job->sizes[choice] : 1 + next_random(&job->random) % job->sizes[count - 1];
}

static void *writer(void *argument)
{
    struct job *job = argument;
    unsigned char *data = malloc(ROOM);
    for (uint64_t at = 0; at < job->total;) {
        uint32_t size = next_size(job), count;
        if (size > job->total - at)
            size = (uint32_t)(job->total - at);
        fill(data, at, size);
        CHECK_EQUAL(np_write(job->handle, data, size, &count, &for_ever), NP_OK);
        CHECK_EQUAL(count, size);
        at += size;
        if (next_random(&job->random) % 64 == 0)
            sched_yield();
    }
    free(data);
    return NULL;
}

static int raise_at_once(void *context)
{
    (void)context;
    return 1;
}

enum { TRIES = 1, WAITS = 2, SHORT_WAITS = 4, SIGNALS = 8, POLLS = 16, PEEKS = 32 };

/* One read in one of the ways of `how`. The number of bytes, which may be none. */
static uint32_t read_somehow(struct job *job, unsigned char *data, uint32_t size)
{
    struct np_handle *handle = job->handle;
    uint32_t count = 0, code, way;
    do
        way = 1u << next_random(&job->random) % 5;
    while (!(job->how & (int)way));
    struct np_wait wait = for_ever;
    if (way == POLLS) {
        struct np_poll_read read;
        CHECK_EQUAL(np_poll_read_begin(handle, &read, data, size), NP_OK);
        code = np_poll_read_step(handle, &read);
        count = code == NP_OK ? read.op.count : 0;
        CHECK_EQUAL(np_poll_read_leave(handle, &read, data), NP_OK);
        CHECK(code == NP_OK || code == NP_WOULD_WAIT);
        return count;
    }
    if (way == TRIES)
        wait = only_try;
    else if (way == SHORT_WAITS)
        wait.deadline = np_now() + next_random(&job->random) % 50000;
    else if (way == SIGNALS) /* a handler that raises, before the first sleep */
        wait.interrupted = raise_at_once;
    code = np_read(handle, data, size, &count, &wait);
    CHECK(code == NP_OK || (code == NP_WOULD_WAIT && way == TRIES) || (code == NP_SEM_TIMEOUT && way == SHORT_WAITS) ||
          (code == NP_INTERRUPTED && way == SIGNALS));
    CHECK(code == NP_OK || count == 0);
    return count;
}

static void *reader(void *argument)
{
    struct job *job = argument;
    unsigned char *data = malloc(ROOM);
    for (uint64_t at = 0; at < job->total;) {
        uint32_t size = next_size(job), count, available, left;
        if (job->how & PEEKS && next_random(&job->random) % 8 == 0) {
            CHECK_EQUAL(np_peek(job->handle, data, size, &count, &available, &left), NP_OK);
            CHECK(available >= count);
            compare(data, at, count);
        }
        count = read_somehow(job, data, size);
        compare(data, at, count);
        at += count;
        if (count == 0)
            sched_yield();
    }
    free(data);
    return NULL;
}

static void stream_through(uint32_t type, uint32_t quota, uint64_t total, const uint32_t *writes, const uint32_t *reads,
                           int how)
{
    struct pair pair;
    open_pair(&pair, type, quota);
    pair.server.mode = 0; /* byte-read mode, also of a message pipe */
    struct job jobs[2] = {{&pair.client, 4711 + quota, total, writes, 0},
                          {&pair.server, 1147 + quota, total, reads, how}};
    pthread_t threads[2];
    CHECK(pthread_create(&threads[0], NULL, writer, &jobs[0]) == 0);
    CHECK(pthread_create(&threads[1], NULL, reader, &jobs[1]) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    close_pair(&pair);
}

#define SIZES(...) ((const uint32_t[]){__VA_ARGS__, 0})

static void a_stream_read_in_other_sizes_than_it_was_written_in_arrives_whole(void)
{
    stream_through(0, 65536, 100000000, SIZES(65536), SIZES(200000), TRIES | WAITS);
    stream_through(0, 4096, 10000000, SIZES(4096), SIZES(65536), TRIES | WAITS);
    stream_through(0, 4096, 10000000, SIZES(1000, 5000), SIZES(65536), TRIES | WAITS);
    stream_through(NP_TYPE_MESSAGE, 4096, 10000000, SIZES(1000, 5000), SIZES(65536), TRIES | WAITS);
}

/* As the native thread does it, but all the time. */
struct giver {
    struct np_handle *handle;
    _Atomic bool over;
    _Atomic unsigned long long given;
};

static void *give_back(void *argument)
{
    struct giver *giver = argument;
    while (!atomic_load(&giver->over)) {
        pthread_mutex_lock(&giver->handle->tx_lock);
        giver->handle->link->tx.stir_at = UINT64_MAX;
        giver->given += np_tx_give_back(giver->handle->link, true);
        pthread_mutex_unlock(&giver->handle->tx_lock);
        sched_yield();
    }
    return NULL;
}

static void a_ring_that_begins_anew_and_gives_its_memory_back_loses_no_byte(void)
{
    for (int trickles = 0; trickles < 2; trickles++)
        for (int type = 0; type <= NP_TYPE_MESSAGE; type += NP_TYPE_MESSAGE) {
            struct pair pair;
            open_pair(&pair, (uint32_t)type, 4096);
            pair.server.mode = 0;
            if (trickles)
                np_trickle_ns = -1; /* everything */
            struct giver giver = {.handle = &pair.client};
            pthread_t giving;
            CHECK(pthread_create(&giving, NULL, give_back, &giver) == 0);
            do { /* on a busy machine a stream may be over before the giver has found anything to give */
                struct job jobs[2] = {{&pair.client, 4711, 3000000, SIZES(1, 100, 4095, 4096, 5000, 100000), 0},
                                      {&pair.server, 1147, 3000000, SIZES(1, 100, 5000, 300000), 63}};
                pthread_t threads[2];
                CHECK(pthread_create(&threads[0], NULL, writer, &jobs[0]) == 0);
                CHECK(pthread_create(&threads[1], NULL, reader, &jobs[1]) == 0);
                for (int i = 0; i < 2; i++)
                    CHECK(pthread_join(threads[i], NULL) == 0);
            } while (atomic_load(&giver.given) == 0);
            atomic_store(&giver.over, true);
            CHECK(pthread_join(giving, NULL) == 0);
            CHECK(pair.client.link->tx.begin > 0);
            np_trickle_ns = 1000;
            close_pair(&pair);
        }
}

static void whatever_ends_a_read_takes_no_byte_with_it(void)
{
    for (int type = 0; type <= NP_TYPE_MESSAGE; type += NP_TYPE_MESSAGE) {
        stream_through((uint32_t)type, 65536, 12000000, SIZES(1, 65535, 65536, 65537, 262145), SIZES(1, 65536, 300000),
                       63);
        stream_through((uint32_t)type, 100, 1500000, SIZES(1, 99, 100, 101, 70000), SIZES(1, 100, 300000), 63);
        stream_through((uint32_t)type, 0, 300000, SIZES(1, 10, 70000), SIZES(1, 100, 300000), 63);
    }
}

/* The entry behind the one that a try finds has arrived in part: as if its writer had begun it just after the try had
 * looked for more. */
static void a_try_that_meets_an_entry_which_has_arrived_in_part_delivers_what_it_took(void)
{
    struct pair pair;
    unsigned char data[64], buffer[256];
    uint32_t count;
    open_pair(&pair, 0, 65536);
    fill(data, 0, 10);
    CHECK_EQUAL(np_write(&pair.client, data, 10, &count, &only_try), NP_OK);
    struct np_link *link = pair.client.link;
    struct npl_direction *inbound = link->tx.shared;
    unsigned char *ring = link->tx.ring + link->tx.tail;
    const uint32_t length = 50, slot = 0;
    ring[0] = NPL_TAG_DEFERRED;
    ring[1] = (unsigned char)slot;
    memcpy(ring + 2, &length, 4);
    fill(data, 10, 50);
    memcpy(ring + 6, data, 20);
    atomic_store(&inbound->deferred.state[slot], 0u << 3 | NPL_ENTRY_LIVE);
    atomic_store(&inbound->producer.tail, link->tx.tail + 6 + 20); /* and not announced */
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 30);
    compare(buffer, 0, 30);
    memcpy(ring + 6 + 20, data + 20, 30);
    atomic_store(&inbound->producer.tail, link->tx.tail + 6 + 50);
    atomic_store(&inbound->producer.announced, 60);
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 30);
    compare(buffer, 30, 30);
    close_pair(&pair);
}

/* More is announced than there is, so that a read of bytes that has taken something waits for it. */
static void announce(struct pair *pair, uint64_t more)
{
    struct npl_direction *inbound = pair->client.link->tx.shared;
    atomic_store(&inbound->producer.announced, pair->client.link->tx.announced + more);
}

static void a_read_that_a_signal_ends_in_the_middle_puts_back_what_it_took(void)
{
    struct pair pair;
    unsigned char data[64], buffer[256];
    uint32_t count, available, left;
    open_pair(&pair, 0, 65536);
    fill(data, 0, 40);
    CHECK_EQUAL(try_write(&pair.client, data, 30), NP_OK);
    announce(&pair, 10);
    struct np_wait wait = for_ever;
    wait.interrupted = raise_at_once;
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &wait), NP_INTERRUPTED);
    CHECK_EQUAL(count, 0);
    CHECK(np_rx_has_back(pair.server.link));
    CHECK_EQUAL(np_arm_read(&pair.server), NP_MORE_DATA);
    announce(&pair, 0);
    CHECK_EQUAL(try_write(&pair.client, data + 30, 10), NP_OK);
    CHECK_EQUAL(np_peek(&pair.server, buffer, sizeof buffer, &count, &available, &left), NP_OK);
    CHECK_EQUAL(count, 40);
    CHECK_EQUAL(available, 40);
    compare(buffer, 0, 40);
    CHECK_EQUAL(np_peek(&pair.server, buffer, 12, &count, &available, &left), NP_OK);
    CHECK_EQUAL(count, 12);
    CHECK_EQUAL(available, 40);
    compare(buffer, 0, 12);
    CHECK_EQUAL(np_read(&pair.server, buffer, 7, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 7);
    compare(buffer, 0, 7);
    CHECK_EQUAL(np_put_back(&pair.server, buffer + 4, 3), NP_OK);
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 26);
    compare(buffer, 4, 26);
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 10);
    compare(buffer, 30, 10);
    CHECK_EQUAL(np_arm_read(&pair.server), NP_OK);
    close_pair(&pair);
}

static void what_is_put_back_keeps_its_order_and_its_ends(void)
{
    struct pair pair;
    unsigned char data[64], buffer[64];
    uint32_t count;
    open_pair(&pair, 0, 65536);
    fill(data, 0, 40);
    CHECK_EQUAL(try_write(&pair.client, data + 20, 10), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, NULL, 0), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, data + 10, 10), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, data, 10), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, NULL, 0), NP_OK);
    const uint32_t expected[] = {0, 20, 0, 10};
    for (uint32_t i = 0, at = 0; i < 4; i++) {
        CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_OK);
        CHECK_EQUAL(count, expected[i]);
        compare(buffer, at, count);
        at += count;
    }
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &only_try), NP_WOULD_WAIT);
    close_pair(&pair);
}

static void a_read_crosses_empty_messages_that_stood_there_before_it(void)
{
    struct pair pair;
    unsigned char data[400], buffer[1024];
    uint32_t count;
    open_pair(&pair, NP_TYPE_MESSAGE, 65536);
    pair.server.mode = 0;
    fill(data, 0, 350);
    CHECK_EQUAL(try_write(&pair.client, data, 35), NP_OK);
    CHECK_EQUAL(np_read(&pair.server, buffer, 10, &count, &only_try), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, data + 35, 300), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, data, 0), NP_OK);
    CHECK_EQUAL(np_read(&pair.server, buffer, 11, &count, &only_try), NP_OK); /* of what it knew of already */
    CHECK_EQUAL(count, 11);
    CHECK_EQUAL(try_write(&pair.client, data + 335, 15), NP_OK);
    CHECK_EQUAL(np_read(&pair.server, buffer, sizeof buffer, &count, &for_ever), NP_OK);
    CHECK_EQUAL(count, 329);
    compare(buffer, 21, 329);
    close_pair(&pair);
}

/* The writer publishes and sees that the reader has asked for a byte; by the time it sends that, the reader has found
 * the message by itself, and waits for the next one. */
static void a_byte_that_comes_late_does_not_keep_the_next_from_being_asked_for(void)
{
    struct pair pair;
    struct np_poll_read read = {0};
    unsigned char buffer[10];
    uint32_t size;
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    _Atomic uint32_t *flags = &pair.server.link->sleep->flags;
    CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, NULL, 0), NP_OK);
    CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_WOULD_WAIT);
    uint32_t before = atomic_fetch_and(flags, ~(uint32_t)NPL_ARMED_READ);
    CHECK(before & NPL_ARMED_READ);
    CHECK_EQUAL(try_write(&pair.client, buffer, 3), NP_OK);
    atomic_fetch_or(flags, NPL_ARMED_READ); /* the writer has seen it, and gets no further */
    CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_OK);
    CHECK_EQUAL(np_poll_message_more(&pair.server, &read, buffer, size), NP_OK);
    CHECK_EQUAL(np_poll_message_take(&pair.server, &read), NP_OK);
    CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_WOULD_WAIT);
    np_link_wake_sleeper(pair.client.link, NPL_SLEEP_READ | NPL_ARMED_READ); /* it goes on */
    CHECK(!np_poll_wake(&pair.server));
    if (np_poll_has_come(&pair.server))
        CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_WOULD_WAIT);
    CHECK_EQUAL(try_write(&pair.client, buffer, 5), NP_OK);
    CHECK(np_link_drain_socket(pair.server.link));
    CHECK_EQUAL(np_poll_read_leave(&pair.server, &read, buffer), NP_OK);
    close_pair(&pair);
}

/* Receives a message in pieces of `step`, as the binding does. */
static uint32_t receive(struct np_handle *handle, unsigned char *buffer, uint32_t step)
{
    struct np_recv recv = {0};
    uint32_t size, done = 0;
    CHECK_EQUAL(np_recv_begin(handle, &recv, &size, &only_try), NP_OK);
    while (done < size) {
        done = done + step < size ? done + step : size;
        CHECK_EQUAL(np_recv_more(handle, &recv, buffer, done, &only_try), NP_OK);
    }
    CHECK_EQUAL(np_recv_end(handle, &recv, buffer, true), NP_OK);
    return size;
}

static void whole_messages_begin_with_what_was_put_back(void)
{
    struct pair pair;
    unsigned char data[64], buffer[64];
    struct np_poll_read poll = {0};
    uint32_t size, count;
    open_pair(&pair, NP_TYPE_MESSAGE, 65536);
    fill(data, 0, 60);
    CHECK_EQUAL(try_write(&pair.client, data + 40, 20), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, data + 30, 10), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, data + 15, 15), NP_OK);
    CHECK_EQUAL(np_put_back(&pair.server, data, 15), NP_OK);
    uint32_t available, left;
    CHECK_EQUAL(np_peek(&pair.server, buffer, 5, &count, &available, &left), NP_OK); /* as of the first message */
    CHECK_EQUAL(count, 5);
    CHECK_EQUAL(left, 10);
    CHECK_EQUAL(available, 60);
    CHECK_EQUAL(np_peek(&pair.server, buffer, 64, &count, &available, &left), NP_OK);
    CHECK_EQUAL(count, 15);
    CHECK_EQUAL(left, 0);
    CHECK_EQUAL(available, 60);
    compare(buffer, 0, 15);
    CHECK_EQUAL(np_recv_try(&pair.server, 100, &size), NP_WOULD_WAIT); /* the quick way leaves it to the other */
    CHECK_EQUAL(receive(&pair.server, buffer, 4), 15);
    compare(buffer, 0, 15);
    CHECK_EQUAL(np_poll_read_begin(&pair.server, &poll, NULL, 0), NP_OK);
    CHECK_EQUAL(np_poll_message(&pair.server, &poll, &size), NP_OK);
    CHECK_EQUAL(size, 15);
    CHECK_EQUAL(np_poll_message_more(&pair.server, &poll, buffer, 7), NP_OK);
    /* Somebody puts back meanwhile: that comes first now. */
    CHECK_EQUAL(np_put_back(&pair.server, data, 15), NP_OK);
    CHECK_EQUAL(np_poll_message_more(&pair.server, &poll, buffer, 15), NP_RETRY);
    CHECK_EQUAL(np_poll_message(&pair.server, &poll, &size), NP_OK);
    CHECK_EQUAL(np_poll_message_more(&pair.server, &poll, buffer, 15), NP_OK);
    CHECK_EQUAL(np_poll_message_take(&pair.server, &poll), NP_OK);
    compare(buffer, 0, 15);
    CHECK_EQUAL(np_poll_read_leave(&pair.server, &poll, buffer), NP_OK);
    CHECK_EQUAL(np_read(&pair.server, buffer, 5, &count, &only_try), NP_MORE_DATA);
    CHECK_EQUAL(np_rest_of_message(&pair.server), 10);
    CHECK_EQUAL(np_read(&pair.server, buffer + 5, 59, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 10);
    compare(buffer, 15, 15);
    CHECK_EQUAL(receive(&pair.server, buffer, 64), 10);
    compare(buffer, 30, 10);
    CHECK_EQUAL(receive(&pair.server, buffer, 64), 20);
    compare(buffer, 40, 20);
    close_pair(&pair);
}

struct blocked {
    struct np_handle *handle;
    unsigned char buffer[256];
    uint32_t code, count;
};

static void *read_blocked(void *argument)
{
    struct blocked *blocked = argument;
    blocked->code = np_read(blocked->handle, blocked->buffer, sizeof blocked->buffer, &blocked->count, &for_ever);
    return NULL;
}

/* Begins a read in a thread, that takes 30 bytes and waits for more. */
static pthread_t begin_read(struct pair *pair, struct blocked *blocked)
{
    unsigned char data[30];
    pthread_t thread;
    fill(data, 0, 30);
    CHECK_EQUAL(try_write(&pair->client, data, 30), NP_OK);
    announce(pair, 10);
    blocked->handle = &pair->server;
    CHECK(pthread_create(&thread, NULL, read_blocked, blocked) == 0);
    while (atomic_load(&pair->client.link->tx.shared->consumer.consumed) != 30)
        sched_yield();
    return thread;
}

static void end_read(struct blocked *blocked, pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(blocked->code, NP_OK);
    CHECK_EQUAL(blocked->count, 30);
    compare(blocked->buffer, 0, 30);
}

static void a_read_delivers_what_it_took_when_its_pipe_ends(void)
{
    for (int way = 0; way < 4; way++) {
        struct pair pair;
        struct blocked blocked = {0};
        open_pair(&pair, 0, 65536);
        pthread_t thread = begin_read(&pair, &blocked);
        if (way == 0)
            close_end(&pair.server);
        else if (way == 1)
            close_end(&pair.client);
        else if (way == 2)
            np_link_violated(pair.server.link);
        else
            np_link_end(pair.client.link, NPL_END_ABORTED, false);
        end_read(&blocked, thread);
        close_pair(&pair);
    }
}

/* What a write that did not even begin had announced is not waited for when it has been withdrawn. */
static void a_read_that_waits_for_a_write_which_is_withdrawn_before_it_begins_delivers_what_it_took(void)
{
    struct pair pair;
    struct blocked blocked = {0};
    struct np_op op = {.size = 10};
    unsigned char data[10];
    open_pair(&pair, 0, 65536);
    pthread_t thread = begin_read(&pair, &blocked);
    struct np_link *link = pair.client.link;
    uint64_t capacity = link->tx.capacity;
    op.in = data;
    link->tx.capacity = 4; /* as if the reader had made room just after the withdrawal has looked for it */
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_submit(link, &op), NP_OK);
    CHECK(!op.started);
    CHECK_EQUAL(np_tx_withdraw(link, &op), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    link->tx.capacity = capacity;
    end_read(&blocked, thread);
    close_pair(&pair);
}

/* A second thread waits for its turn to read, asleep, when the first one puts back what it had. */
static void bytes_that_are_put_back_wake_whoever_waits_to_read(void)
{
    struct pair pair;
    struct blocked blocked = {0};
    unsigned char data[30];
    pthread_t thread;
    open_pair(&pair, 0, 65536);
    blocked.handle = &pair.server;
    np_will_put_back(&pair.server);
    CHECK(pthread_create(&thread, NULL, read_blocked, &blocked) == 0);
    while (!(atomic_load(&pair.server.link->sleep->flags) & (NPL_SLEEP_READ | NPL_ARMED_READ)))
        sched_yield();
    fill(data, 0, 30);
    CHECK_EQUAL(np_put_back(&pair.server, data, 30), NP_OK);
    end_read(&blocked, thread);
    close_pair(&pair);
}

static int raised(void *context)
{
    (void)context;
    return 1;
}

/* The time-out and the signals of a call are for all the messages that it begins with. */
static void a_call_whose_message_was_taken_back_looks_at_the_clock_and_for_signals(void)
{
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        struct pair pair;
        struct np_recv recv;
        static unsigned char data[300000], buffer[300000];
        struct np_poll_write write, next;
        uint32_t size;
        open_pair(&pair, NP_TYPE_MESSAGE, 100);
        CHECK_EQUAL(np_poll_write_begin(&pair.client, &write, data, sizeof data), NP_WOULD_WAIT);
        np_recv_prepare(&recv, false);
        struct np_wait wait = {.deadline = by_signal ? NP_FOREVER : 0, .interrupted = by_signal ? raised : NULL};
        CHECK_EQUAL(np_recv_begin(&pair.server, &recv, &size, &wait), NP_OK);
        CHECK_EQUAL(np_recv_more(&pair.server, &recv, buffer, 10, &wait), NP_OK);
        CHECK(np_poll_write_withdraw(&pair.client, &write) == NP_OK);
        CHECK_EQUAL(np_poll_write_begin(&pair.client, &next, data, sizeof data), NP_WOULD_WAIT);
        CHECK_EQUAL(np_recv_more(&pair.server, &recv, buffer, size, &wait), NP_RETRY);
        CHECK_EQUAL(np_recv_end(&pair.server, &recv, buffer, false), NP_OK);
        recv.patience = recv.patience ? 1 : 0; /* it is over */
        CHECK_EQUAL(np_recv_begin(&pair.server, &recv, &size, &wait), by_signal ? NP_INTERRUPTED : NP_SEM_TIMEOUT);
        np_poll_write_leave(&pair.client, &next, false);
        close_pair(&pair);
    }
}

/* ---- What came while a read was pending is its, whatever has ended the link since */

enum ending { PEER_CLOSES, PEER_DISCONNECTS, PEER_ABORTS, CLOSED_HERE, DISCONNECTED_HERE, ENDINGS };

/* As np_handle_unlink does it, without a registry. */
static void end_here(struct np_handle *handle, uint32_t alert, enum npl_end_state state)
{
    struct np_link *link = handle->link;
    pthread_mutex_lock(&handle->rx_lock);
    pthread_mutex_lock(&handle->tx_lock);
    handle->link = NULL;
    handle->state = alert == NP_ALERT_CLOSING ? NP_CLOSED : NP_DISCONNECTED;
    np_link_alert(link, alert);
    np_link_end(link, state, false);
    pthread_mutex_unlock(&handle->tx_lock);
    pthread_mutex_unlock(&handle->rx_lock);
    shutdown(link->socket, SHUT_RDWR);
    np_link_unref(link);
}

static void end_by(struct np_handle *reader, struct np_handle *writer, enum ending ending)
{
    if (ending == CLOSED_HERE)
        end_here(reader, NP_ALERT_CLOSING, NPL_END_CLOSED);
    else if (ending == DISCONNECTED_HERE)
        end_here(reader, NP_ALERT_DISCONNECTED, NPL_END_DISCONNECTED);
    else
        np_link_end(writer->link,
                    ending == PEER_CLOSES        ? NPL_END_CLOSED
                    : ending == PEER_DISCONNECTS ? NPL_END_DISCONNECTED
                                                 : NPL_END_ABORTED,
                    false);
}

static uint32_t code_of(enum ending ending)
{
    return ending == PEER_DISCONNECTS || ending == DISCONNECTED_HERE ? NP_PIPE_NOT_CONNECTED : NP_BROKEN_PIPE;
}

static void an_event_loops_read_that_was_pending_has_what_came_before_the_end(void)
{
    for (enum ending ending = 0; ending < ENDINGS; ending++)
        for (int way = 0; way < 4; way++)
            for (int came = 0; came < 2; came++) {
                struct pair pair;
                bool whole = way & 1, message_mode = way & 2;
                open_pair(&pair, NP_TYPE_MESSAGE, 100);
                struct np_handle *reader = ending == DISCONNECTED_HERE ? &pair.server : &pair.client,
                                 *writer = ending == DISCONNECTED_HERE ? &pair.client : &pair.server;
                reader->mode = message_mode ? NP_MODE_READ_MESSAGE : 0;
                unsigned char data[40], buffer[100] = {0};
                uint32_t size = 0;
                struct np_poll_read read;
                fill(data, 0, sizeof data);
                CHECK_EQUAL(np_poll_read_begin(reader, &read, whole ? NULL : buffer, whole ? 0 : sizeof buffer), NP_OK);
                CHECK_EQUAL(whole ? np_poll_message(reader, &read, &size) : np_poll_read_step(reader, &read),
                            NP_WOULD_WAIT);
                if (came)
                    CHECK_EQUAL(try_write(writer, data, sizeof data), NP_OK);
                end_by(reader, writer, ending);
                uint32_t code = whole ? np_poll_message(reader, &read, &size) : np_poll_read_step(reader, &read);
                CHECK_EQUAL(code, came ? NP_OK : code_of(ending));
                if (came && whole) {
                    CHECK_EQUAL(size, sizeof data);
                    CHECK_EQUAL(np_poll_message_more(reader, &read, buffer, size), NP_OK);
                    CHECK_EQUAL(np_poll_message_take(reader, &read), NP_OK);
                } else if (came) {
                    CHECK_EQUAL(read.op.count, sizeof data);
                }
                if (came)
                    compare(buffer, 0, sizeof data);
                np_poll_read_leave(reader, &read, buffer);
                close_pair(&pair);
            }
}

static void *receive_blocked(void *argument)
{
    struct blocked *blocked = argument;
    struct np_recv recv;
    np_recv_prepare(&recv, false);
    blocked->code = np_recv_begin(blocked->handle, &recv, &blocked->count, &for_ever);
    if (blocked->code != NP_OK)
        return NULL;
    CHECK(blocked->count <= sizeof blocked->buffer);
    blocked->code = np_recv_more(blocked->handle, &recv, blocked->buffer, blocked->count, &for_ever);
    uint32_t end = np_recv_end(blocked->handle, &recv, blocked->buffer, blocked->code == NP_OK);
    if (blocked->code == NP_OK)
        blocked->code = end;
    return NULL;
}

/* Threads that are pending readers one behind the other. */
static void begin_readers(struct blocked *blocked, pthread_t *threads, int count, struct np_handle *reader, bool whole)
{
    for (int i = 0; i < count; i++) {
        blocked[i] = (struct blocked){.handle = reader};
        CHECK(pthread_create(&threads[i], NULL, whole ? receive_blocked : read_blocked, &blocked[i]) == 0);
        for (int queued = 0; queued <= i;) {
            sched_yield();
            pthread_mutex_lock(&reader->rx_lock);
            queued = 0;
            for (struct np_op *op = reader->link->rx.first; op; op = op->next)
                queued++;
            pthread_mutex_unlock(&reader->rx_lock);
        }
    }
    while (!(atomic_load(&reader->link->sleep->flags) & (NPL_SLEEP_READ | NPL_ARMED_READ)))
        sched_yield();
}

static void threads_that_were_reading_have_what_came_before_the_end(void)
{
    for (enum ending ending = 0; ending < ENDINGS; ending++)
        for (int way = 0; way < 4; way++)
            for (uint32_t came = 0; came <= 2; came++) {
                struct pair pair;
                enum { READERS = 2 };
                struct blocked blocked[READERS];
                pthread_t threads[READERS];
                bool whole = way & 1, message_mode = way & 2;
                open_pair(&pair, NP_TYPE_MESSAGE, 100);
                struct np_handle *reader = ending == DISCONNECTED_HERE ? &pair.server : &pair.client,
                                 *writer = ending == DISCONNECTED_HERE ? &pair.client : &pair.server;
                reader->mode = message_mode ? NP_MODE_READ_MESSAGE : 0;
                unsigned char data[80];
                fill(data, 0, sizeof data);
                begin_readers(blocked, threads, READERS, reader, whole);
                /* No reader gets at them before the end has come. */
                pthread_mutex_lock(&reader->rx_lock);
                for (uint32_t i = 0; i < came; i++)
                    CHECK_EQUAL(try_write(writer, data + 40 * i, 40), NP_OK);
                if (ending < CLOSED_HERE)
                    end_by(reader, writer, ending);
                pthread_mutex_unlock(&reader->rx_lock);
                if (ending >= CLOSED_HERE)
                    end_by(reader, writer, ending);
                for (uint32_t i = 0; i < READERS; i++) {
                    CHECK(pthread_join(threads[i], NULL) == 0);
                    CHECK_EQUAL(blocked[i].code, i < came ? NP_OK : code_of(ending));
                    if (i < came) {
                        CHECK_EQUAL(blocked[i].count, 40);
                        compare(blocked[i].buffer, 40 * i, 40);
                    }
                }
                close_pair(&pair);
            }
}

/* A message that is longer than the ring, of which the reader has begun to take the first part: what stands in the ring
 * when the link ends is all of the rest. */
static void a_message_under_way_is_delivered_if_all_of_it_came_before_the_end(void)
{
    static unsigned char data[200000], buffer[200000];
    for (enum ending ending = 0; ending < ENDINGS; ending++)
        for (int all = 0; all < 2; all++) {
            struct pair pair;
            struct np_op op = {.in = data, .size = sizeof data};
            struct np_recv recv;
            uint32_t size;
            fill(data, 0, sizeof data);
            open_pair(&pair, NP_TYPE_MESSAGE, 100);
            struct np_handle *reader = ending == DISCONNECTED_HERE ? &pair.server : &pair.client,
                             *writer = ending == DISCONNECTED_HERE ? &pair.client : &pair.server;
            pthread_mutex_lock(&writer->tx_lock);
            CHECK_EQUAL(np_tx_submit(writer->link, &op), NP_OK);
            pthread_mutex_unlock(&writer->tx_lock);
            np_recv_prepare(&recv, false);
            CHECK_EQUAL(np_recv_begin(reader, &recv, &size, &only_try), NP_OK);
            CHECK_EQUAL(size, sizeof data);
            while (all && op.count < op.size) {
                CHECK_EQUAL(np_recv_more(reader, &recv, buffer, op.count, &only_try), NP_OK);
                pthread_mutex_lock(&writer->tx_lock);
                CHECK_EQUAL(np_tx_pump(writer->link), NP_OK);
                pthread_mutex_unlock(&writer->tx_lock);
            }
            CHECK_EQUAL(op.count < op.size, !all);
            end_by(reader, writer, ending);
            struct np_wait wait = for_ms(1000);
            uint32_t code = np_recv_more(reader, &recv, buffer, size, &wait);
            if (all)
                CHECK_EQUAL(code, NP_OK);
            else
                CHECK_EQUAL(code == NP_RETRY ? NP_BROKEN_PIPE : code, code_of(ending)); /* RETRY: it is dropped */
            CHECK_EQUAL(np_recv_end(reader, &recv, buffer, all), NP_OK);
            if (all)
                compare(buffer, 0, sizeof data);
            pthread_mutex_lock(&writer->tx_lock);
            np_tx_forget(writer->link, &op);
            pthread_mutex_unlock(&writer->tx_lock);
            close_pair(&pair);
        }
}

/* Nobody had asked for it: it goes with the connection (SEMANTICS 3.3). */
static void what_came_before_the_end_is_not_a_later_reads(void)
{
    struct pair pair;
    unsigned char buffer[100];
    uint32_t count;
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    CHECK_EQUAL(try_write(&pair.server, "abc", 3), NP_OK);
    np_link_end(pair.server.link, NPL_END_DISCONNECTED, false);
    CHECK_EQUAL(np_read(&pair.client, buffer, sizeof buffer, &count, &for_ever), NP_PIPE_NOT_CONNECTED);
    struct np_poll_read read;
    CHECK_EQUAL(np_poll_read_begin(&pair.client, &read, buffer, sizeof buffer), NP_OK);
    CHECK_EQUAL(np_poll_read_step(&pair.client, &read), NP_PIPE_NOT_CONNECTED);
    CHECK_EQUAL(np_poll_read_leave(&pair.client, &read, buffer), NP_OK);
    close_pair(&pair);
}

static uint32_t take_reply(void *context, const struct np_wait *wait)
{
    struct blocked *blocked = context;
    (void)wait;
    receive_blocked(blocked);
    return blocked->code;
}

static void *transact_blocked(void *argument)
{
    struct blocked *blocked = argument;
    static unsigned char request[300000];
    blocked->code = np_transact(blocked->handle, request, sizeof request, &for_ever, take_reply, blocked);
    return NULL;
}

/* The peer answers before it has read all of the request, and goes. */
static void a_transaction_whose_request_is_under_way_has_the_answer_that_came_before_the_end(void)
{
    for (enum ending ending = 0; ending <= PEER_CLOSES; ending++) {
        struct pair pair;
        struct blocked blocked = {0};
        pthread_t thread;
        unsigned char data[40];
        fill(data, 0, sizeof data);
        open_pair(&pair, NP_TYPE_MESSAGE, 100);
        blocked.handle = &pair.client;
        CHECK(pthread_create(&thread, NULL, transact_blocked, &blocked) == 0);
        while (!(atomic_load(&pair.client.link->sleep->flags) & NPL_SLEEP_WRITE))
            sched_yield();
        CHECK_EQUAL(try_write(&pair.server, data, sizeof data), NP_OK);
        end_by(&pair.client, &pair.server, ending);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(blocked.code, NP_OK);
        CHECK_EQUAL(blocked.count, sizeof data);
        compare(blocked.buffer, 0, sizeof data);
        close_pair(&pair);
    }
}

static void a_read_without_patience_delivers_what_it_took(void)
{
    struct pair pair;
    struct blocked blocked = {.handle = &pair.server};
    open_pair(&pair, 0, 65536);
    unsigned char data[30];
    fill(data, 0, 30);
    pair.server.mode = NP_MODE_NOWAIT;
    CHECK_EQUAL(try_write(&pair.client, data, 30), NP_OK);
    announce(&pair, 10);
    read_blocked(&blocked);
    CHECK_EQUAL(blocked.code, NP_OK);
    CHECK_EQUAL(blocked.count, 30);
    compare(blocked.buffer, 0, 30);
    close_pair(&pair);
}

/* More than is copied at a time, and the peer has gone: all of it is there. */
static void a_long_message_of_a_peer_that_has_closed_is_received(void)
{
    struct pair pair;
    const uint32_t size = 17u << 20;
    uint8_t *data = malloc(size), *received = malloc(size);
    CHECK(data && received);
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    for (int steps = 0; steps < 2; steps++) {
        open_pair(&pair, NP_TYPE_MESSAGE, size);
        const struct np_wait wait = for_ms(5000);
        uint32_t count, found = 0, code;
        CHECK_EQUAL(np_write(&pair.client, data, size, &count, &wait), NP_OK);
        np_link_end(pair.client.link, NPL_END_CLOSED, false);
        memset(received, 0, size);
        if (steps) {
            struct np_poll_read read;
            CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, NULL, 0), NP_OK);
            CHECK_EQUAL(np_poll_message(&pair.server, &read, &found), NP_OK);
            while ((code = np_poll_message_more(&pair.server, &read, received, size)) == NP_YIELD)
                continue;
            CHECK_EQUAL(code, NP_OK);
            CHECK_EQUAL(np_poll_message_take(&pair.server, &read), NP_OK);
            np_poll_read_leave(&pair.server, &read, NULL);
        } else {
            struct np_recv recv;
            np_recv_prepare(&recv, false);
            CHECK_EQUAL(np_recv_begin(&pair.server, &recv, &found, &wait), NP_OK);
            CHECK_EQUAL(np_recv_more(&pair.server, &recv, received, size, &wait), NP_OK);
            CHECK_EQUAL(np_recv_end(&pair.server, &recv, received, true), NP_OK);
        }
        CHECK_EQUAL(found, size);
        CHECK(memcmp(received, data, size) == 0);
        close_pair(&pair);
    }
    free(data);
    free(received);
}

int main(void)
{
    RUN(a_long_message_of_a_peer_that_has_closed_is_received);
    RUN(a_try_that_meets_an_entry_which_has_arrived_in_part_delivers_what_it_took);
    RUN(a_read_that_a_signal_ends_in_the_middle_puts_back_what_it_took);
    RUN(what_is_put_back_keeps_its_order_and_its_ends);
    RUN(a_read_crosses_empty_messages_that_stood_there_before_it);
    RUN(a_byte_that_comes_late_does_not_keep_the_next_from_being_asked_for);
    RUN(whole_messages_begin_with_what_was_put_back);
    RUN(a_read_delivers_what_it_took_when_its_pipe_ends);
    RUN(a_read_that_waits_for_a_write_which_is_withdrawn_before_it_begins_delivers_what_it_took);
    RUN(bytes_that_are_put_back_wake_whoever_waits_to_read);
    RUN(a_read_without_patience_delivers_what_it_took);
    RUN(a_call_whose_message_was_taken_back_looks_at_the_clock_and_for_signals);
    RUN(an_event_loops_read_that_was_pending_has_what_came_before_the_end);
    RUN(threads_that_were_reading_have_what_came_before_the_end);
    RUN(a_message_under_way_is_delivered_if_all_of_it_came_before_the_end);
    RUN(what_came_before_the_end_is_not_a_later_reads);
    RUN(a_transaction_whose_request_is_under_way_has_the_answer_that_came_before_the_end);
    RUN(a_stream_read_in_other_sizes_than_it_was_written_in_arrives_whole);
    RUN(a_ring_that_begins_anew_and_gives_its_memory_back_loses_no_byte);
    RUN(whatever_ends_a_read_takes_no_byte_with_it);
    return 0;
}
