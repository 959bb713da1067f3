/* One ring between two ends in one thread: entries, quotas, partial reads, deferral, withdrawal, streaming. */
#include "base/copy.h"
#include "pair.h"

static void messages_keep_their_boundaries(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 65536);
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, "", 0), NP_OK);
    CHECK_EQUAL(try_write(&pair.client, "defg", 4), NP_OK);
    expect_read(&pair.server, 100, NP_OK, "abc");
    expect_read(&pair.server, 100, NP_OK, "");
    expect_read(&pair.server, 2, NP_MORE_DATA, "de");
    expect_read(&pair.server, 0, NP_MORE_DATA, "");
    expect_read(&pair.server, 2, NP_OK, "fg");
    expect_read(&pair.server, 2, NP_WOULD_WAIT, "");
    close_pair(&pair);
}

static void byte_reads_cross_messages_and_swallow_empty_ones(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 65536);
    pair.server.mode = 0;
    try_write(&pair.client, "", 0);
    try_write(&pair.client, "abc", 3);
    try_write(&pair.client, "", 0);
    try_write(&pair.client, "def", 3);
    try_write(&pair.client, "", 0);
    expect_read(&pair.server, 4, NP_OK, "abcd");
    expect_read(&pair.server, 100, NP_OK, "ef"); /* and the trailing empty one with it */
    expect_read(&pair.server, 100, NP_WOULD_WAIT, "");
    try_write(&pair.client, "abc", 3);
    try_write(&pair.client, "", 0);
    expect_read(&pair.server, 3, NP_OK, "abc"); /* filled exactly: the empty one stays */
    expect_read(&pair.server, 3, NP_OK, "");
    close_pair(&pair);
}

static void entries_of_every_size_survive_every_position_in_the_ring(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 40000);
    static unsigned char out[40000], in[40000];
    static const uint32_t sizes[] = {0,    1,     2,     126,   127,   128,   129,   255,  256,
                                     4095, 16383, 16384, 16385, 32767, 32768, 39999, 40000};
    for (unsigned round = 0; round < 400; round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            uint32_t size = sizes[i], count;
            fill_pattern(out, size, round + i);
            CHECK_EQUAL(try_write(&pair.client, out, size), NP_OK);
            CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
            CHECK_EQUAL(count, size);
            CHECK(memcmp(in, out, size) == 0);
        }
    close_pair(&pair);
}

/* np_copy_over has a way of its own for a few kilobytes: all of it, and nothing beside it. */
static void a_copy_of_any_size_to_any_place_is_exact(void)
{
    enum { BESIDE = 64, PLACES = 65, LEAST = 512, MOST = 8192 };
    static const uint32_t around[] = {1, 64, LEAST, 1024, 4096, MOST};
    static uint8_t source[MOST + 200], target[MOST + 400];
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i * 31 % 251 + 1);
    for (size_t n = 0; n < sizeof around / sizeof *around; n++)
        for (uint32_t size = around[n] - 1; size <= around[n] + 1; size++)
            for (uint32_t place = 0; place < PLACES; place++) {
                const uint8_t *from = source + place * 7 % PLACES;
                memset(target, 0, sizeof target);
                np_copy_over(target + BESIDE + place, from, size);
                CHECK(memcmp(target + BESIDE + place, from, size) == 0);
                for (uint32_t i = 0; i < BESIDE; i++)
                    CHECK(target[place + i] == 0 && target[BESIDE + place + size + i] == 0);
            }
}

/* A writer's stores and a reader's hints for entries of a few kilobytes, over the ring's end too. */
static void entries_of_a_few_kilobytes_keep_their_bytes(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 65536);
    static uint8_t sent[8200], got[sizeof sent];
    static const uint32_t sizes[] = {511, 512, 513, 1000, 4095, 4096, 4097, 8191, 8192, 8193};
    for (uint32_t round = 0; round < 600; round++) {
        uint32_t size = sizes[round % 10], count = 0;
        for (uint32_t i = 0; i < size; i++)
            sent[i] = (uint8_t)(i * 13 + round * 7 + i / 251);
        CHECK_EQUAL(try_write(&pair.client, sent, size), NP_OK);
        CHECK_EQUAL(np_read(&pair.server, got, size, &count, &only_try), NP_OK);
        CHECK_EQUAL(count, size);
        CHECK(memcmp(got, sent, size) == 0);
    }
    close_pair(&pair);
}

static void one_entry_of_several_buffers_and_into_several(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 40000);
    static unsigned char out[60000], in[60000];
    static const uint32_t sizes[][5] = {{0, 0, 0, 0, 0},         {1, 0, 2, 0, 3},         {0, 127, 1, 0, 0},
                                        {4096, 1, 0, 12289, 5},  {32768, 0, 7000, 1, 1},  {9999, 30001, 0, 0, 0},
                                        {30000, 1, 19999, 0, 1}, {0, 0, 50000, 0, 10000}, {1, 1, 1, 1, 59990}};
    for (unsigned round = 0; round < 300; round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct iovec parts[5], rooms[5];
            uint32_t size = 0, count, found;
            for (int k = 0; k < 5; k++) {
                parts[k] = (struct iovec){sizes[i][k] ? out + size : NULL, sizes[i][k]};
                rooms[4 - k] = parts[k]; /* the same sizes, the last first */
                size += sizes[i][k];
            }
            uint32_t place = 0;
            for (int k = 0; k < 5; k++) {
                rooms[k].iov_base = in + place;
                place += (uint32_t)rooms[k].iov_len;
            }
            fill_pattern(out, size, round + i);
            memset(in, 0xee, sizeof in);
            uint32_t code = np_write_parts(&pair.client, parts, size, &count, &only_try);
            if (code == NP_OK) { /* a plain entry: read in two parts, the first of a third */
                CHECK_EQUAL(count, size);
                CHECK_EQUAL(np_recv_try(&pair.server, UINT32_MAX, &found), NP_OK);
                CHECK_EQUAL(found, size);
                CHECK_EQUAL(np_recv_take_parts(&pair.server, rooms, size / 3), size / 3);
                CHECK(memcmp(in, out, size / 3) == 0);
                if (size == 0)
                    continue; /* an empty one is read at once */
                struct iovec rest = {in + size / 3, sizeof in - size / 3};
                CHECK_EQUAL(np_recv_try(&pair.server, UINT32_MAX, &found), NP_OK);
                CHECK_EQUAL(np_recv_take_parts(&pair.server, &rest, sizeof in - size / 3), size - size / 3);
            } else { /* over the quota: deferred, and in pieces */
                CHECK_EQUAL(code, NP_WOULD_WAIT);
                struct np_op *op = calloc(1, sizeof *op);
                op->parts = (struct np_parts){.part = parts};
                op->size = size;
                pthread_mutex_lock(&pair.client.tx_lock);
                CHECK_EQUAL(np_tx_submit(pair.client.link, op), NP_OK);
                pthread_mutex_unlock(&pair.client.tx_lock);
                CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
                CHECK_EQUAL(count, size);
                pthread_mutex_lock(&pair.client.tx_lock);
                CHECK_EQUAL(np_tx_pump(pair.client.link), NP_OK);
                pthread_mutex_unlock(&pair.client.tx_lock);
                CHECK(op->done);
                free(op);
            }
            CHECK(memcmp(in, out, size) == 0);
        }
    close_pair(&pair);
}

static void the_quota_is_exact_whatever_the_entries_are(void)
{
    static const uint32_t quotas[] = {1, 10, 4096, 65536, 100000};
    for (unsigned i = 0; i < sizeof quotas / sizeof *quotas; i++) {
        struct pair pair;
        open_pair(&pair, NP_TYPE_MESSAGE, quotas[i]);
        for (uint32_t k = 0; k < quotas[i]; k++)
            CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_OK); /* one byte of header for each byte */
        CHECK_EQUAL(try_write(&pair.client, "x", 1), NP_WOULD_WAIT);
        if (quotas[i] < 65536)
            CHECK_EQUAL(try_write(&pair.client, "", 0), NP_OK); /* never waits */
        expect_read(&pair.server, 1, NP_OK, "x");
        CHECK_EQUAL(try_write(&pair.client, "y", 1), NP_OK);
        close_pair(&pair);
    }
}

static struct np_op *submit(struct np_handle *handle, const void *data, uint32_t size)
{
    struct np_op *op = calloc(1, sizeof *op);
    op->in = data;
    op->size = size;
    pthread_mutex_lock(&handle->tx_lock);
    CHECK_EQUAL(np_tx_submit(handle->link, op), NP_OK);
    pthread_mutex_unlock(&handle->tx_lock);
    return op;
}

static bool pumped(struct np_handle *handle, struct np_op *op)
{
    pthread_mutex_lock(&handle->tx_lock);
    CHECK_EQUAL(np_tx_pump(handle->link), NP_OK);
    pthread_mutex_unlock(&handle->tx_lock);
    return op->done;
}

static uint32_t withdraw(struct np_handle *handle, struct np_op *op)
{
    pthread_mutex_lock(&handle->tx_lock);
    uint32_t code = np_tx_withdraw(handle->link, op);
    pthread_mutex_unlock(&handle->tx_lock);
    return code;
}

static void a_write_over_the_quota_is_visible_at_once_and_complete_when_enough_is_read(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    struct np_op *op = submit(&pair.client, "abcdefghijklmnopqrstuvwxy", 25);
    CHECK(!op->done);
    uint32_t count, available, left;
    char seen[100];
    CHECK_EQUAL(np_peek(&pair.server, seen, sizeof seen, &count, &available, &left), NP_OK);
    CHECK(count == 25 && available == 25 && left == 0);
    expect_read(&pair.server, 14, NP_MORE_DATA, "abcdefghijklmn");
    CHECK(!pumped(&pair.client, op));
    expect_read(&pair.server, 1, NP_MORE_DATA, "o");
    CHECK(pumped(&pair.client, op));
    free(op);
    close_pair(&pair);
}

static void deferred_writes_complete_in_order(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    struct np_op *op[50];
    for (int i = 0; i < 50; i++)
        op[i] = submit(&pair.client, "0123456789abcde", 15); /* more than there are slots for deferred entries */
    for (int i = 0; i < 50; i++) {
        CHECK(!pumped(&pair.client, op[i]));
        uint32_t count, available, left;
        CHECK_EQUAL(np_peek(&pair.server, NULL, 0, &count, &available, &left), NP_OK);
        CHECK_EQUAL(available, (50 - i) * 15); /* also of those that wait outside the ring */
        expect_read(&pair.server, 15, NP_OK, "0123456789abcde");
        CHECK(pumped(&pair.client, op[i]));
        free(op[i]);
    }
    close_pair(&pair);
}

static void a_withdrawn_write_takes_its_unread_rest_with_it(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 4);
    struct np_op *first = submit(&pair.client, "first-", 6), *second = submit(&pair.client, "second", 6),
                 *third = submit(&pair.client, "third-", 6);
    expect_read(&pair.server, 1, NP_MORE_DATA, "f");
    CHECK_EQUAL(withdraw(&pair.client, second), NP_OK);
    CHECK_EQUAL(withdraw(&pair.client, first), NP_OK);
    uint32_t count, available, left;
    char seen[100];
    CHECK_EQUAL(np_peek(&pair.server, seen, sizeof seen, &count, &available, &left), NP_OK);
    CHECK(count == 6 && available == 6 && memcmp(seen, "third-", 6) == 0);
    expect_read(&pair.server, 6, NP_OK, "third-");
    CHECK(pumped(&pair.client, third));
    CHECK_EQUAL(np_flush(&pair.client, &only_try), NP_OK);
    free(first);
    free(second);
    free(third);
    close_pair(&pair);
}

/* Who has met an entry that is just being withdrawn, and is on its way to sleep, has to see that it is over. */
static void the_end_of_a_withdrawal_can_be_seen(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 4);
    const struct np_rx *rx = &pair.server.link->rx;
    for (int begun = 0; begun < 2; begun++)
        for (int last = 0; last < 2; last++) {
            struct np_op *op = submit(&pair.client, "withdrawn", 9),
                         *behind = last ? NULL : submit(&pair.client, "behind", 6);
            if (begun)
                expect_read(&pair.server, 1, NP_MORE_DATA, "w");
            else
                expect_read(&pair.server, 0, NP_MORE_DATA, "");
            uint64_t tail = rx->tail;
            uint32_t rewinds = rx->rewinds;
            CHECK_EQUAL(withdraw(&pair.client, op), NP_OK);
            CHECK(np_rx_moved_since(pair.server.link, tail, rewinds));
            if (behind) {
                expect_read(&pair.server, 6, NP_OK, "behind");
                CHECK(pumped(&pair.client, behind));
            }
            expect_read(&pair.server, 6, NP_WOULD_WAIT, "");
            free(op);
            free(behind);
        }
    close_pair(&pair);
}

static void a_flush_does_not_wait_for_what_was_withdrawn(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 4);
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_OK);
    struct np_op *op = submit(&pair.client, "too much", 8);
    CHECK_EQUAL(np_flush(&pair.client, &only_try), NP_WOULD_WAIT);
    CHECK_EQUAL(withdraw(&pair.client, op), NP_OK);
    CHECK_EQUAL(np_flush(&pair.client, &only_try), NP_WOULD_WAIT);
    expect_read(&pair.server, 3, NP_OK, "abc");
    CHECK_EQUAL(np_flush(&pair.client, &only_try), NP_OK);
    free(op);
    close_pair(&pair);
}

static void read_three(struct np_handle *handle)
{
    char three[3];
    uint32_t count;
    CHECK_EQUAL(np_read(handle, three, 3, &count, &only_try), NP_MORE_DATA);
    CHECK_EQUAL(count, 3);
}

static void a_withdrawn_write_gives_its_space_back(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    char *much = calloc(1, 200000);
    for (int i = 0; i < 100; i++) {
        struct np_op *op = submit(&pair.client, much, 200000), *behind = submit(&pair.client, "behind", 6);
        CHECK(!op->done && !behind->done);
        if (i % 3 == 1)
            read_three(&pair.server); /* begun */
        if (i % 2)
            CHECK_EQUAL(withdraw(&pair.client, behind), NP_OK);
        CHECK_EQUAL(withdraw(&pair.client, op), NP_OK);
        if (i % 2 == 0)
            CHECK_EQUAL(withdraw(&pair.client, behind), behind->done ? NP_NO_DATA : NP_OK);
        CHECK_EQUAL(try_write(&pair.client, "hi", 2), NP_OK);
        if (behind->done)
            expect_read(&pair.server, 10, NP_OK, "behind");
        expect_read(&pair.server, 10, NP_OK, "hi");
        expect_read(&pair.server, 10, NP_WOULD_WAIT, "");
        free(op);
        free(behind);
    }
    free(much);
    close_pair(&pair);
}

static void an_entry_larger_than_the_ring_streams_through_it(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    enum { SIZE = 1000000, PIECE = 30000 };
    unsigned char *out = malloc(SIZE), *in = malloc(SIZE);
    fill_pattern(out, SIZE, 3);
    struct np_op *op = submit(&pair.client, out, SIZE);
    uint32_t got = 0, count;
    while (got < SIZE) {
        uint32_t want = SIZE - got < PIECE ? SIZE - got : PIECE;
        CHECK_EQUAL(np_read(&pair.server, in + got, want, &count, &only_try),
                    got + want == SIZE ? NP_OK : NP_MORE_DATA);
        CHECK_EQUAL(count, want);
        got += count;
        pumped(&pair.client, op);
    }
    CHECK(op->done && memcmp(in, out, SIZE) == 0);
    free(op);
    free(out);
    free(in);
    close_pair(&pair);
}

static void a_read_that_times_out_in_a_long_message_consumes_nothing(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 1000);
    enum { SIZE = 300000 };
    unsigned char *out = malloc(SIZE), *in = malloc(SIZE);
    fill_pattern(out, SIZE, 5);
    struct np_op *op = submit(&pair.client, out, SIZE);
    for (int i = 0; i < 3; i++) { /* nobody pumps: it takes what stands in the ring, and gives it back */
        uint32_t count;
        struct np_wait wait = for_ms(1);
        CHECK_EQUAL(np_read(&pair.server, in, SIZE, &count, &wait), NP_SEM_TIMEOUT);
        pumped(&pair.client, op);
    }
    CHECK(!op->done);
    uint32_t got = 0, count;
    while (got < SIZE) {
        uint32_t want = SIZE - got < 999 ? SIZE - got : 999;
        CHECK_EQUAL(np_read(&pair.server, in + got, want, &count, &only_try),
                    got + want == SIZE ? NP_OK : NP_MORE_DATA);
        got += count;
        pumped(&pair.client, op);
    }
    CHECK(op->done && memcmp(in, out, SIZE) == 0);
    free(op);
    free(out);
    free(in);
    close_pair(&pair);
}

static void post_read(struct np_handle *handle, struct np_op *op, uint32_t size)
{
    op->size = size;
    op->pended = true;
    pthread_mutex_lock(&handle->rx_lock);
    np_queue_append(&handle->link->rx.first, &handle->link->rx.last, op);
    np_rx_post(handle->link);
    pthread_mutex_unlock(&handle->rx_lock);
}

static void a_pending_read_counts_as_room(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 0);
    struct np_op first = {0}, second = {0};
    uint32_t count;
    CHECK_EQUAL(try_write(&pair.client, "abc", 3), NP_WOULD_WAIT); /* a rendezvous without a reader */
    post_read(&pair.server, &first, 2);
    post_read(&pair.server, &second, 2);
    CHECK_EQUAL(try_write(&pair.client, "abcde", 5), NP_WOULD_WAIT);
    pair.client.mode |= NP_MODE_NOWAIT;
    CHECK_EQUAL(np_write(&pair.client, "abcde", 5, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 0); /* a message is all or nothing */
    CHECK_EQUAL(np_write(&pair.client, "abc", 3, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 3);
    CHECK_EQUAL(np_write(&pair.client, "d", 1, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 0); /* both reads are spoken for */
    pthread_mutex_lock(&pair.server.rx_lock);
    np_rx_leave(pair.server.link, &first);
    np_rx_leave(pair.server.link, &second);
    pthread_mutex_unlock(&pair.server.rx_lock);
    expect_read(&pair.server, 2, NP_MORE_DATA, "ab");
    expect_read(&pair.server, 2, NP_OK, "c");
    CHECK_EQUAL(np_write(&pair.client, "d", 1, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, 0); /* nobody reads any more */
    close_pair(&pair);
}

static void a_peek_behind_a_close_sees_what_came_since_the_last_look(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    static unsigned char out[100000], in[100000];
    uint32_t count, available, left;
    fill_pattern(out, sizeof out, 5);
    struct np_op *op = submit(&pair.client, out, sizeof out);
    struct np_wait now = {.deadline = 0};
    CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &now), NP_SEM_TIMEOUT); /* the rest is not there yet */
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_pump(pair.client.link), NP_OK);
    CHECK(np_tx_all_put(pair.client.link));
    np_tx_forget(pair.client.link, op);
    pthread_mutex_unlock(&pair.client.tx_lock);
    free(op);
    close_end(&pair.client);
    CHECK_EQUAL(np_peek(&pair.server, in, 10, &count, &available, &left), NP_OK);
    CHECK_EQUAL(count, 10);
    CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_OK);
    CHECK_EQUAL(count, sizeof out);
    CHECK(memcmp(in, out, sizeof out) == 0);
    close_pair(&pair);
}

static void what_was_written_before_a_close_stays_readable(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 100);
    try_write(&pair.client, "last words", 10);
    close_end(&pair.client);
    expect_read(&pair.server, 4, NP_MORE_DATA, "last");
    CHECK_EQUAL(try_write(&pair.server, "x", 1), NP_NO_DATA);
    expect_read(&pair.server, 10, NP_OK, " words");
    expect_read(&pair.server, 10, NP_BROKEN_PIPE, "");
    close_pair(&pair);
}

static void what_the_dead_had_not_finished_writing_goes_with_them(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    try_write(&pair.client, "12345678", 8);
    struct np_op *op = submit(&pair.client, "over the quota", 14);
    np_link_alert(pair.server.link, NP_ALERT_GONE); /* what the native thread does when the socket hangs up */
    expect_read(&pair.server, 100, NP_OK, "12345678");
    expect_read(&pair.server, 100, NP_BROKEN_PIPE, "");
    pthread_mutex_lock(&pair.client.tx_lock);
    np_tx_forget(pair.client.link, op);
    pthread_mutex_unlock(&pair.client.tx_lock);
    free(op);
    close_pair(&pair);
}

static void empty_messages_beyond_what_is_kept_wait_and_come_in_order(void)
{
    struct pair pair;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    uint32_t before = 0, got, count;
    while (try_write(&pair.client, "", 0) == NP_OK)
        CHECK(++before < 200000);
    CHECK(before > 65536 + 8000 && before < 65536 + 9000);
    struct np_wait wait = for_ms(20);
    CHECK_EQUAL(np_write(&pair.client, "", 0, &count, &wait), NP_SEM_TIMEOUT); /* and is withdrawn */
    pair.client.mode |= NP_MODE_NOWAIT;
    CHECK_EQUAL(try_write(&pair.client, "", 0), NP_NO_SYSTEM_RESOURCES);
    pair.client.mode &= ~(uint32_t)NP_MODE_NOWAIT;
    struct np_op *op = submit(&pair.client, "", 0);
    CHECK(!pumped(&pair.client, op));
    for (got = 0; got < before; got++) {
        expect_read(&pair.server, 10, NP_OK, "");
        if (got % 1000 == 0 || got == 65530)
            pumped(&pair.client, op);
    }
    CHECK(pumped(&pair.client, op));
    expect_read(&pair.server, 10, NP_OK, "");
    CHECK_EQUAL(pair.client.link->tx.kept, 0);
    CHECK_EQUAL(pair.client.link->tx.outside, 0);
    CHECK_EQUAL(try_write(&pair.client, "last", 4), NP_OK);
    expect_read(&pair.server, 10, NP_OK, "last");
    expect_read(&pair.server, 10, NP_WOULD_WAIT, "");
    free(op);
    close_pair(&pair);
}

static void what_the_dead_wrote_since_the_last_look_is_no_entry(void)
{
    struct pair pair;
    static unsigned char out[100000], in[100];
    uint32_t count;
    open_pair(&pair, NP_TYPE_MESSAGE, 10);
    memset(out, 3, sizeof out); /* as entries: plain ones, of three bytes */
    struct np_op *op = submit(&pair.client, out, sizeof out);
    CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_MORE_DATA);
    /* Room for more of it, which the reader has not looked for when it hears of the death. */
    struct np_rx *rx = &pair.server.link->rx;
    rx->head += 30000;
    rx->pulled += 30000;
    rx->stash = calloc(1, 30000);
    rx->stash_length = 30000;
    atomic_store(&rx->shared->consumer.head, rx->head);
    pthread_mutex_lock(&pair.client.tx_lock);
    CHECK_EQUAL(np_tx_pump(pair.client.link), NP_OK);
    pthread_mutex_unlock(&pair.client.tx_lock);
    CHECK(atomic_load(&rx->shared->producer.tail) != rx->tail);
    np_link_alert(pair.server.link, NP_ALERT_GONE);
    for (int i = 0; i < 3; i++) /* not only the first time */
        CHECK_EQUAL(np_read(&pair.server, in, sizeof in, &count, &only_try), NP_BROKEN_PIPE);
    pthread_mutex_lock(&pair.client.tx_lock);
    np_tx_forget(pair.client.link, op);
    pthread_mutex_unlock(&pair.client.tx_lock);
    free(op);
    close_pair(&pair);
}

int main(void)
{
    RUN(messages_keep_their_boundaries);
    RUN(byte_reads_cross_messages_and_swallow_empty_ones);
    RUN(entries_of_every_size_survive_every_position_in_the_ring);
    RUN(a_copy_of_any_size_to_any_place_is_exact);
    RUN(entries_of_a_few_kilobytes_keep_their_bytes);
    RUN(one_entry_of_several_buffers_and_into_several);
    RUN(the_quota_is_exact_whatever_the_entries_are);
    RUN(a_write_over_the_quota_is_visible_at_once_and_complete_when_enough_is_read);
    RUN(deferred_writes_complete_in_order);
    RUN(a_withdrawn_write_takes_its_unread_rest_with_it);
    RUN(the_end_of_a_withdrawal_can_be_seen);
    RUN(a_flush_does_not_wait_for_what_was_withdrawn);
    RUN(a_withdrawn_write_gives_its_space_back);
    RUN(an_entry_larger_than_the_ring_streams_through_it);
    RUN(a_read_that_times_out_in_a_long_message_consumes_nothing);
    RUN(a_pending_read_counts_as_room);
    RUN(a_peek_behind_a_close_sees_what_came_since_the_last_look);
    RUN(what_was_written_before_a_close_stays_readable);
    RUN(empty_messages_beyond_what_is_kept_wait_and_come_in_order);
    RUN(what_the_dead_had_not_finished_writing_goes_with_them);
    RUN(what_the_dead_wrote_since_the_last_look_is_no_entry);
    return 0;
}
