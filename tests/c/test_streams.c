/* Byte streams: every byte says where it stands, and is compared. A read that gives nothing has consumed nothing,
 * whatever it asked for and whatever ended it. For the thread sanitizer too. */
#include <sched.h>

#include "handle/step.h"
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

int main(void)
{
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
    RUN(a_stream_read_in_other_sizes_than_it_was_written_in_arrives_whole);
    RUN(whatever_ends_a_read_takes_no_byte_with_it);
    return 0;
}
