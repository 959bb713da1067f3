/* What the other end does between two instructions of a reader: white box, so that it happens just there, each time. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

static void (*before_a_claim)(void);
static int claims; /* how many of them; then the other end is still */
static void (*after_a_commit)(void);

static void preempted_by(void (**other)(void), int once)
{
    void (*act)(void) = *other;
    if (!act)
        return;
    *other = NULL; /* it may itself come by here */
    act();
    if (!once)
        *other = act;
}

/* A claim is the only compare-and-swap of a reader's but for skipping what was withdrawn. */
#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(word, expected, desired, success, failure) \
    (preempted_by(&before_a_claim, --claims <= 0),                                         \
     __atomic_compare_exchange_n(word, expected, desired, 0, success, failure))
#undef atomic_thread_fence
#define atomic_thread_fence(order)            \
    do {                                      \
        __atomic_thread_fence(order);         \
        if ((order) == memory_order_seq_cst)  \
            preempted_by(&after_a_commit, 0); \
    } while (0)

#include "ring/rx.c"

#include "pair.h"

static struct pair pair;

/* ---- A send that times out is made again while the reader is on its way to the entry */

static struct np_poll_write first, second;
static unsigned char first_data[1 << 20], second_data[1 << 20], seen[1 << 20];
static uint32_t second_size;

static void it_is_sent_again(void)
{
    CHECK_EQUAL(np_poll_write_withdraw(&pair.client, &first), NP_OK);
    CHECK_EQUAL(np_poll_write_begin(&pair.client, &second, second_data, second_size), NP_WOULD_WAIT);
}

static void a_peek_sees_no_header_when_the_entry_it_has_found_is_another_one(void)
{
    static const uint32_t sizes[] = {1 << 20, (1 << 20) - 1, 700000};
    fill_pattern(first_data, sizeof first_data, 1);
    fill_pattern(second_data, sizeof second_data, 2);
    for (uint32_t type = 0; type <= NP_TYPE_MESSAGE; type += NP_TYPE_MESSAGE)
        for (int i = 0; i < 3; i++) {
            uint32_t count, available, left;
            second_size = sizes[i];
            open_pair(&pair, type, 100);
            CHECK_EQUAL(np_poll_write_begin(&pair.client, &first, first_data, sizeof first_data), NP_WOULD_WAIT);
            claims = 1;
            before_a_claim = it_is_sent_again;
            CHECK_EQUAL(np_peek(&pair.server, seen, sizeof seen, &count, &available, &left), NP_OK);
            CHECK(!before_a_claim);
            CHECK(count > 0);
            CHECK_EQUAL(available, second_size);
            CHECK(memcmp(seen, second_data, count) == 0);
            np_poll_write_withdraw(&pair.client, &second);
            close_pair(&pair);
        }
}

static void a_read_takes_the_entry_that_has_come_in_the_place_of_the_one_it_has_found(void)
{
    for (uint32_t type = 0; type <= NP_TYPE_MESSAGE; type += NP_TYPE_MESSAGE) {
        uint32_t count;
        second_size = 700000;
        open_pair(&pair, type, 100);
        CHECK_EQUAL(np_poll_write_begin(&pair.client, &first, first_data, sizeof first_data), NP_WOULD_WAIT);
        claims = 1;
        before_a_claim = it_is_sent_again;
        CHECK_EQUAL(np_read(&pair.server, seen, 50, &count, &only_try), type ? NP_MORE_DATA : NP_OK);
        CHECK(!before_a_claim);
        CHECK_EQUAL(count, 50);
        CHECK(memcmp(seen, second_data, count) == 0);
        np_poll_write_leave(&pair.client, &second, false);
        close_pair(&pair);
    }
}

/* ---- It is taken back and made again each time that the reader has found it */

static void each_is_taken_back(void)
{
    CHECK_EQUAL(np_poll_write_withdraw(&pair.client, &second), NP_OK);
    CHECK_EQUAL(np_poll_write_begin(&pair.client, &second, second_data, sizeof second_data), NP_WOULD_WAIT);
}

static void begin_to_take_back(int how_often)
{
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    CHECK_EQUAL(np_poll_write_begin(&pair.client, &second, second_data, sizeof second_data), NP_WOULD_WAIT);
    claims = how_often;
    before_a_claim = each_is_taken_back;
}

static void end_to_take_back(void)
{
    before_a_claim = NULL;
    np_poll_write_leave(&pair.client, &second, false);
    close_pair(&pair);
}

static void messages_that_are_taken_back_do_not_keep_a_reader_beyond_its_time(void)
{
    for (int ms = 0; ms < 200; ms += 150) {
        struct np_recv recv;
        uint32_t code, size;
        begin_to_take_back(INT32_MAX);
        np_recv_prepare(&recv, false);
        int64_t began = np_now();
        struct np_wait wait = for_ms(ms);
        do {
            code = np_recv_begin(&pair.server, &recv, &size, &wait);
            if (code != NP_OK)
                break;
            CHECK_EQUAL(size, sizeof second_data);
            code = np_recv_more(&pair.server, &recv, seen, size, &wait);
            CHECK_EQUAL(np_recv_end(&pair.server, &recv, seen, false), NP_OK);
        } while (code == NP_RETRY);
        CHECK_EQUAL(code, NP_SEM_TIMEOUT);
        CHECK(np_now() >= began + ms * INT64_C(1000000));
        end_to_take_back();
    }
}

static void an_event_loop_has_its_turn_between_messages_that_are_taken_back(void)
{
    struct np_poll_read read;
    uint32_t code, size, yields = 0;
    begin_to_take_back(2000);
    CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, NULL, 0), NP_OK);
    do {
        int before = claims;
        do {
            code = np_poll_message(&pair.server, &read, &size);
            if (code == NP_OK)
                code = np_poll_message_more(&pair.server, &read, seen, 1000);
        } while (code == NP_RETRY);
        CHECK(before - claims <= 1000);
        yields += code == NP_YIELD;
    } while (code == NP_YIELD);
    CHECK_EQUAL(code, NP_OK); /* the last one was not taken back */
    CHECK(yields >= 2);
    CHECK(memcmp(seen, second_data, 1000) == 0);
    CHECK_EQUAL(np_poll_read_leave(&pair.server, &read, seen), NP_OK);
    end_to_take_back();
}

/* ---- A writer brings one byte more each time that the reader has taken one */

enum { LONG = 1000000, VERY_LONG = 64 << 20 };
static uint64_t brought, to_bring;

static void a_byte_more_comes(void)
{
    struct np_tx *tx = &pair.client.link->tx;
    if (brought == to_bring)
        return;
    tx->ring[(6 + brought) % tx->capacity] = (unsigned char)(brought % 251);
    brought++;
    atomic_store_explicit(&tx->shared->producer.tail, 6 + brought, memory_order_release);
}

static void begin_to_trickle(uint32_t type, uint32_t total)
{
    open_pair(&pair, type, 100);
    struct np_tx *tx = &pair.client.link->tx;
    const unsigned char header[2] = {NPL_TAG_DEFERRED, 0};
    memcpy(tx->ring, header, 2);
    memcpy(tx->ring + 2, &total, 4);
    brought = 0;
    to_bring = total;
    atomic_store(&tx->shared->deferred.state[0], 0u << 3 | NPL_ENTRY_LIVE);
    atomic_store(&tx->shared->producer.announced, total);
    a_byte_more_comes();
    after_a_commit = a_byte_more_comes;
}

static void end_to_trickle(void)
{
    after_a_commit = NULL;
    close_pair(&pair);
}

static void a_read_of_bytes_ends_by_its_time_though_more_comes_whenever_it_has_taken_some(void)
{
    static unsigned char data[VERY_LONG];
    uint32_t count;
    begin_to_trickle(0, VERY_LONG);
    struct np_wait now = {.deadline = 0};
    CHECK_EQUAL(np_read(&pair.server, data, VERY_LONG, &count, &now), NP_OK);
    CHECK(count > 0 && count < VERY_LONG);
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQUAL(data[i], i % 251);
    struct np_poll_read read;
    unsigned char *rest = data + count;
    uint32_t before = count;
    CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, rest, VERY_LONG - count), NP_OK);
    CHECK_EQUAL(np_poll_read_step(&pair.server, &read), NP_OK);
    CHECK(read.op.count > 0 && read.op.count < 5000);
    for (uint32_t i = 0; i < read.op.count; i++)
        CHECK_EQUAL(rest[i], (before + i) % 251);
    CHECK_EQUAL(np_poll_read_leave(&pair.server, &read, rest), NP_OK);
    end_to_trickle();
}

/* Each step of an event loop, in a message that comes byte by byte without a pause, is a part of it. */
static void an_event_loops_step_in_a_message_is_bounded(void)
{
    static unsigned char data[LONG];
    for (int whole = 0; whole < 2; whole++) {
        struct np_poll_read read;
        uint32_t size, code, steps = 0;
        begin_to_trickle(NP_TYPE_MESSAGE, LONG);
        CHECK_EQUAL(np_poll_read_begin(&pair.server, &read, whole ? NULL : data, whole ? 0 : LONG), NP_OK);
        if (whole) {
            CHECK_EQUAL(np_poll_message(&pair.server, &read, &size), NP_OK);
            CHECK_EQUAL(size, LONG);
        }
        do {
            uint32_t before = read.op.count;
            code = whole ? np_poll_message_more(&pair.server, &read, data, LONG)
                         : np_poll_read_step(&pair.server, &read);
            CHECK(code == NP_OK || code == NP_YIELD);
            CHECK(read.op.count > before && read.op.count - before < 300000);
            steps++;
        } while (code == NP_YIELD);
        CHECK(steps >= LONG / 300000);
        if (whole)
            CHECK_EQUAL(np_poll_message_take(&pair.server, &read), NP_OK);
        for (uint32_t i = 0; i < LONG; i++)
            CHECK_EQUAL(data[i], i % 251);
        CHECK_EQUAL(np_poll_read_leave(&pair.server, &read, data), NP_OK);
        end_to_trickle();
    }
}

int main(void)
{
    RUN(a_peek_sees_no_header_when_the_entry_it_has_found_is_another_one);
    RUN(a_read_takes_the_entry_that_has_come_in_the_place_of_the_one_it_has_found);
    RUN(messages_that_are_taken_back_do_not_keep_a_reader_beyond_its_time);
    RUN(an_event_loop_has_its_turn_between_messages_that_are_taken_back);
    RUN(a_read_of_bytes_ends_by_its_time_though_more_comes_whenever_it_has_taken_some);
    RUN(an_event_loops_step_in_a_message_is_bounded);
    return 0;
}
