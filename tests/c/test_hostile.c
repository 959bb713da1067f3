/* A peer that keeps this end busy on purpose: every call ends, with an error or by its time, and the link with it. */
#include <sys/mman.h>

#include "base/socket.h"
#include "pair.h"

/* ---- An attacker in a thread of its own, which does one thing over and over until it is told to stop */

struct attack {
    struct pair pair;
    void (*act)(struct attack *attack);
    struct npl_direction *inbound; /* what the victim, the server, reads */
    uint8_t *ring;
    uint64_t capacity;
    _Atomic int stop;
    uint64_t turns;
    pthread_t thread;
};

static void *attacking(void *argument)
{
    struct attack *attack = argument;
    while (!atomic_load(&attack->stop)) {
        attack->act(attack);
        attack->turns++;
    }
    return NULL;
}

static void open_attack(struct attack *attack, uint32_t type, uint32_t quota)
{
    memset(attack, 0, sizeof *attack);
    open_pair(&attack->pair, type, quota);
    struct np_tx *tx = &attack->pair.client.link->tx;
    attack->inbound = tx->shared;
    attack->ring = tx->ring;
    attack->capacity = tx->capacity;
}

static void begin(struct attack *attack, void (*act)(struct attack *attack))
{
    attack->act = act;
    CHECK(pthread_create(&attack->thread, NULL, attacking, attack) == 0);
}

static void end_attack(struct attack *attack)
{
    atomic_store(&attack->stop, 1);
    CHECK(pthread_join(attack->thread, NULL) == 0);
    close_pair(&attack->pair);
}

/* Puts the header of a deferred entry at ring position `at`. */
static void forge(struct attack *attack, uint64_t at, uint8_t slot, uint32_t total)
{
    uint8_t header[NPL_MAX_ENTRY_HEADER] = {NPL_TAG_DEFERRED, slot};
    memcpy(header + 2, &total, sizeof total);
    for (size_t i = 0; i < sizeof header; i++)
        attack->ring[(at + i) % attack->capacity] = header[i];
}

static void set_state(struct attack *attack, uint32_t sequence, enum npl_entry_state state)
{
    atomic_store(&attack->inbound->deferred.state[sequence % NPL_DEFERRED], sequence << 3 | (uint32_t)state);
}

static void in_time(int64_t began, int ms)
{
    int64_t took = (np_now() - began) / 1000000;
    if (took > ms) {
        fprintf(stderr, "it took %lld ms, and was to take %d\n", (long long)took, ms);
        abort();
    }
}

#define SLACK_MS 5000 /* on a machine that is busy with other things */

static uint32_t read_for(struct np_handle *handle, int ms)
{
    static char data[4096];
    uint32_t count;
    struct np_wait wait = for_ms(ms);
    int64_t began = np_now();
    uint32_t code = np_read(handle, data, sizeof data, &count, &wait);
    in_time(began, ms + SLACK_MS);
    return code;
}

static uint32_t peek(struct np_handle *handle)
{
    static char data[60000];
    uint32_t count, available, left;
    int64_t began = np_now();
    uint32_t code = np_peek(handle, data, sizeof data, &count, &available, &left);
    in_time(began, SLACK_MS);
    return code;
}

/* ---- What stands there without moving */

static void an_entry_that_is_taken_back_and_still_there_ends_the_link(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    forge(&attack, 0, 0, 10);
    set_state(&attack, 0, NPL_ENTRY_REWOUND);
    atomic_store(&attack.inbound->producer.tail, 6);
    CHECK_EQUAL(read_for(&attack.pair.server, 100), NP_INVALID_DATA);
    close_pair(&attack.pair);
}

static void a_message_that_shrinks_after_it_was_seen_is_not_delivered(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    memset(attack.ring, 'x', 100);
    attack.ring[0] = 50;
    atomic_store(&attack.inbound->producer.tail, 51);
    char bytes[8];
    uint32_t count, available, left, size;
    CHECK_EQUAL(np_peek(&attack.pair.server, bytes, 8, &count, &available, &left), NP_OK);
    atomic_store(&attack.inbound->producer.tail, 11);
    CHECK_EQUAL(np_peek(&attack.pair.server, bytes, 8, &count, &available, &left), NP_INVALID_DATA);
    CHECK(np_recv_try(&attack.pair.server, 1000, &size) != NP_OK);
    close_pair(&attack.pair);
}

static void one_that_says_it_is_gone_and_goes_on_writing_is_gone(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    for (uint32_t i = 0; i < 8; i++) {
        forge(&attack, 6 * i, (uint8_t)i, 100);
        set_state(&attack, i, NPL_ENTRY_LIVE);
    }
    atomic_store(&attack.inbound->producer.tail, 6);
    atomic_store(attack.pair.client.link->state, NPL_END_CLOSED);
    CHECK_EQUAL(read_for(&attack.pair.server, 100), NP_BROKEN_PIPE);
    close_pair(&attack.pair);
}

/* ---- What moves all the time */

/* Room that is filled with entries to be skipped, again and again: their states stay, so hardly anything has to be done
 * but to move the tail. */
static void feed(struct attack *attack)
{
    set_state(attack, NPL_DEFERRED - 1, NPL_ENTRY_WITHDRAWN);
    uint64_t head = atomic_load(&attack->inbound->consumer.head);
    atomic_store(&attack->inbound->producer.tail, head + attack->capacity - attack->capacity % 6);
}

static void withdrawn_entries_without_end_do_not_hold_a_read(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    for (uint32_t i = 0; i < NPL_DEFERRED; i++)
        set_state(&attack, i, NPL_ENTRY_CUT);
    for (uint64_t at = 0; at + 6 <= attack.capacity; at += 6)
        forge(&attack, at, (uint8_t)(at / 6 % (NPL_DEFERRED - 1)), 1);
    /* The last one goes with what is left behind it. */
    uint32_t gap = (uint32_t)(attack.capacity % 6);
    forge(&attack, attack.capacity - gap - 6, NPL_DEFERRED - 1, gap);
    atomic_store(&attack.inbound->deferred.put[NPL_DEFERRED - 1], gap);
    begin(&attack, feed);
    for (int i = 0; i < 20; i++) {
        uint32_t code = read_for(&attack.pair.server, 50);
        if (code == NP_INVALID_DATA)
            break;
    }
    end_attack(&attack);
}

static void empty_messages_without_end_do_not_hold_a_read_of_bytes(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    attack.pair.server.mode = 0;
    memset(attack.ring, 0, attack.capacity);
    begin(&attack, feed);
    for (int i = 0; i < 20; i++) {
        uint32_t code = read_for(&attack.pair.server, 50);
        CHECK(code == NP_OK || code == NP_SEM_TIMEOUT);
    }
    end_attack(&attack);
}

static void count_rewinds(struct attack *attack)
{
    atomic_fetch_add(&attack->inbound->takebacks.rewinds, 1);
}

static void rewinds_without_end_hold_neither_a_read_nor_a_peek(void)
{
    for (int kind = 0; kind < 3; kind++) {
        struct attack attack;
        open_attack(&attack, kind == 2 ? 0 : NP_TYPE_MESSAGE, 4096);
        if (kind) {
            forge(&attack, 0, 0, 100000);
            set_state(&attack, 0, NPL_ENTRY_LIVE);
            atomic_store(&attack.inbound->producer.tail, 50);
        }
        begin(&attack, count_rewinds);
        for (int i = 0; i < 5; i++) {
            peek(&attack.pair.server);
            read_for(&attack.pair.server, 20);
        }
        end_attack(&attack);
    }
}

static void waver(struct attack *attack)
{
    atomic_store(&attack->inbound->producer.tail, 50 + attack->turns % 2);
}

static void a_tail_that_wavers_holds_neither_a_peek_nor_a_wait(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    forge(&attack, 0, 0, 100000);
    set_state(&attack, 0, NPL_ENTRY_LIVE);
    atomic_store(&attack.inbound->producer.tail, 50);
    begin(&attack, waver);
    for (int i = 0; i < 5; i++) {
        peek(&attack.pair.server);
        read_for(&attack.pair.server, 20);
    }
    end_attack(&attack);
}

static void shake(struct attack *attack)
{
    atomic_fetch_add(&attack->pair.server.link->sleep->seq, 1);
}

static void a_sleepers_word_that_moves_all_the_time_does_not_keep_it_beyond_its_time(void)
{
    struct attack attack;
    static char data[200000];
    uint32_t count;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    begin(&attack, shake);
    CHECK_EQUAL(read_for(&attack.pair.server, 100), NP_SEM_TIMEOUT);
    struct np_recv recv = {0};
    struct np_wait wait = for_ms(100);
    int64_t began = np_now();
    CHECK_EQUAL(np_recv_begin(&attack.pair.server, &recv, &count, &wait), NP_SEM_TIMEOUT);
    wait = for_ms(100);
    CHECK_EQUAL(np_write(&attack.pair.server, data, sizeof data, &count, &wait), NP_SEM_TIMEOUT);
    CHECK_EQUAL(np_write(&attack.pair.server, data, 100, &count, &only_try), NP_OK);
    wait = for_ms(100);
    CHECK_EQUAL(np_flush(&attack.pair.server, &wait), NP_SEM_TIMEOUT);
    in_time(began, 300 + SLACK_MS);
    end_attack(&attack);
}

static void waver_far(struct attack *attack)
{
    atomic_store(&attack->inbound->producer.tail, 6 + attack->turns % 2);
}

static void an_event_loops_step_ends_though_the_peer_moves_all_the_time(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    forge(&attack, 0, 0, 100000);
    set_state(&attack, 0, NPL_ENTRY_MOVING);
    atomic_store(&attack.inbound->producer.tail, 6);
    begin(&attack, waver_far);
    struct np_poll_read read;
    uint32_t size;
    int64_t began = np_now();
    CHECK_EQUAL(np_poll_read_begin(&attack.pair.server, &read, NULL, 0), NP_OK);
    for (int i = 0; i < 5; i++)
        np_poll_message(&attack.pair.server, &read, &size);
    np_poll_read_leave(&attack.pair.server, &read, NULL);
    in_time(began, SLACK_MS);
    end_attack(&attack);
}

/* A message that seems to be taken back whenever its reader begins with it. */
static void take_back_again_and_again(struct attack *attack)
{
    atomic_fetch_add(&attack->inbound->takebacks.rewinds, 1);
}

static void begin_to_take_back(struct attack *attack)
{
    open_attack(attack, NP_TYPE_MESSAGE, 4096);
    forge(attack, 0, 0, 1000);
    set_state(attack, 0, NPL_ENTRY_LIVE);
    atomic_store(&attack->inbound->producer.tail, 6);
    begin(attack, take_back_again_and_again);
}

/* As the binding does it. */
static uint32_t receive(struct np_handle *handle, uint8_t *buffer, const struct np_wait *wait)
{
    struct np_recv recv;
    uint32_t code, size;
    np_recv_prepare(&recv, false);
    do {
        code = np_recv_begin(handle, &recv, &size, wait);
        if (code != NP_OK)
            return code;
        CHECK(size <= 1000);
        code = np_recv_more(handle, &recv, buffer, size, wait);
        uint32_t end = np_recv_end(handle, &recv, buffer, code == NP_OK);
        code = code == NP_OK ? end : code;
    } while (code == NP_RETRY);
    return code;
}

static void messages_that_are_taken_back_do_not_keep_their_reader_beyond_its_time(void)
{
    struct attack attack;
    uint8_t buffer[1000];
    for (int i = 0; i < 10; i++) {
        begin_to_take_back(&attack);
        int64_t began = np_now();
        struct np_wait wait = for_ms(50);
        uint32_t code = receive(&attack.pair.server, buffer, &wait);
        /* A peer that is fast enough to take back 65,536 in a row by then ends the link (protocol.md, section 4). */
        CHECK(code == NP_SEM_TIMEOUT || code == NP_INVALID_DATA);
        in_time(began, 50 + SLACK_MS);
        end_attack(&attack);
    }
}

static void a_wait_for_an_overlapped_read_ends_by_its_time_though_the_peer_moves_all_the_time(void)
{
    struct attack attack;
    static char data[1000];
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    struct np_handle *victim = &attack.pair.server;
    forge(&attack, 0, 0, 100000);
    set_state(&attack, 0, NPL_ENTRY_MOVING);
    atomic_store(&attack.inbound->producer.tail, 6);
    struct np_object *file = np_object_new(NP_OBJECT_FILE, true, false);
    struct np_async *async = np_async_new();
    struct np_telling telling = {.file = file};
    atomic_init(&victim->refs, 1);
    np_async_prepare(async, victim, NP_ASYNC_READ, &telling);
    CHECK_EQUAL(np_async_read(async, data, sizeof data), NP_IO_PENDING);
    begin(&attack, waver_far);
    int64_t began = np_now();
    for (int ms = 0; ms < 60; ms += 20) {
        struct np_wait wait = ms ? for_ms(ms) : only_try;
        uint32_t index;
        bool abandoned;
        uint32_t code = np_wait_objects(&file, 1, false, false, &wait, &index, &abandoned);
        CHECK(code == NP_SEM_TIMEOUT || code == NP_OK);
    }
    np_async_cancel(async);
    in_time(began, SLACK_MS);
    CHECK(np_async_code(async) != NP_IO_PENDING);
    np_async_unref(np_async_reap());
    np_async_unref(async);
    np_object_unref(file);
    end_attack(&attack);
}

static void a_read_that_fails_while_its_rest_is_waited_for_is_told_and_not_also_refused(void)
{
    struct attack attack;
    static char data[100000];
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    struct np_handle *victim = &attack.pair.server;
    forge(&attack, 0, 0, sizeof data);
    set_state(&attack, 0, NPL_ENTRY_LIVE);
    atomic_store(&attack.inbound->producer.tail, 50);
    struct np_object *file = np_object_new(NP_OBJECT_FILE, true, false);
    struct np_async *async = np_async_new();
    struct np_telling telling = {.file = file};
    atomic_init(&victim->refs, 1);
    np_async_prepare(async, victim, NP_ASYNC_READ, &telling);
    CHECK_EQUAL(np_async_read(async, data, sizeof data), NP_IO_PENDING);
    CHECK(np_async_lacks_rest(async));
    atomic_store(&attack.inbound->producer.tail, 0);
    CHECK_EQUAL(np_async_await_rest(async), NP_IO_PENDING); /* as its start: who gets an error there is told nothing */
    CHECK_EQUAL(np_async_code(async), NP_INVALID_DATA);
    CHECK(file->signalled);
    np_async_unref(np_async_reap());
    np_async_unref(async);
    np_object_unref(file);
    close_pair(&attack.pair);
}

/* A few bytes at a time, and always some. */
static void trickle(struct attack *attack)
{
    atomic_store(&attack->inbound->producer.tail, atomic_load(&attack->inbound->consumer.head) + 200);
}

static void a_message_that_comes_byte_by_byte_does_not_keep_its_reader_beyond_its_time(void)
{
    struct attack attack;
    const uint32_t size = UINT32_MAX; /* it would take minutes */
    uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(data != MAP_FAILED);
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    struct np_handle *victim = &attack.pair.server;
    forge(&attack, 0, 0, size);
    set_state(&attack, 0, NPL_ENTRY_LIVE);
    atomic_store(&attack.inbound->producer.tail, 6);
    begin(&attack, trickle);
    struct np_wait wait = for_ms(50);
    uint32_t count, length;
    int64_t began = np_now();
    CHECK_EQUAL(np_read(victim, data, size, &count, &wait), NP_SEM_TIMEOUT);
    in_time(began, 50 + SLACK_MS);
    struct np_recv recv = {0};
    wait = for_ms(50);
    began = np_now();
    CHECK_EQUAL(np_recv_begin(victim, &recv, &length, &wait), NP_OK);
    CHECK_EQUAL(np_recv_more(victim, &recv, data, length, &wait), NP_SEM_TIMEOUT);
    np_recv_end(victim, &recv, data, false);
    in_time(began, 50 + SLACK_MS);
    struct np_object *file = np_object_new(NP_OBJECT_FILE, true, false);
    struct np_async *async = np_async_new();
    struct np_telling telling = {.file = file};
    atomic_init(&victim->refs, 1);
    np_async_prepare(async, victim, NP_ASYNC_READ, &telling);
    began = np_now();
    CHECK_EQUAL(np_async_read(async, data, size), NP_IO_PENDING);
    wait = for_ms(50);
    uint32_t index;
    bool abandoned;
    CHECK_EQUAL(np_wait_objects(&file, 1, false, false, &wait, &index, &abandoned), NP_SEM_TIMEOUT);
    CHECK(np_async_cancel(async));
    in_time(began, 50 + SLACK_MS);
    np_async_unref(np_async_reap());
    np_async_unref(async);
    np_object_unref(file);
    end_attack(&attack);
    munmap(data, size);
}

/* ---- A reader that lies about what it has taken */

static void claim_all(struct attack *attack)
{
    /* The victim writes here, so its ring is the outbound one. */
    struct npl_direction *out = attack->pair.server.link->tx.shared;
    if (atomic_load(&out->producer.tail) == 0 || (atomic_load(&out->deferred.state[0]) & 7) != NPL_ENTRY_MOVING)
        return;
    atomic_store(&out->consumer.head, atomic_load(&out->producer.tail));
    atomic_store(&out->consumer.taken, 1);
}

static void a_reader_that_takes_what_is_being_withdrawn_only_ends_the_link(void)
{
    static uint8_t data[20000];
    for (int i = 0; i < 2000; i++) {
        struct attack attack;
        open_attack(&attack, NP_TYPE_MESSAGE, 100);
        begin(&attack, claim_all);
        struct np_handle *victim = &attack.pair.server;
        struct np_op op = {.in = data, .size = sizeof data};
        pthread_mutex_lock(&victim->tx_lock);
        CHECK_EQUAL(np_tx_submit(victim->link, &op), NP_OK);
        uint32_t code = np_tx_withdraw(victim->link, &op);
        CHECK(code == NP_OK || code == NP_INVALID_DATA || code == NP_WOULD_WAIT);
        if (op.queued)
            np_tx_forget(victim->link, &op);
        pthread_mutex_unlock(&victim->tx_lock);
        end_attack(&attack);
    }
}

/* Fills the ring with empty messages until one has to wait for its place. How many there were. */
static uint32_t fill_with_empty_messages(struct np_handle *victim)
{
    uint32_t count = 0, code;
    while ((code = try_write(victim, "", 0)) == NP_OK)
        CHECK(++count < 400000);
    CHECK_EQUAL(code, NP_WOULD_WAIT);
    return count;
}

static void a_reader_that_has_read_what_is_not_in_the_ring_ends_the_link(void)
{
    static uint8_t data[65536];
    for (int lie = 0; lie < 3; lie++) {
        struct attack attack;
        open_attack(&attack, NP_TYPE_MESSAGE, 1000);
        struct np_handle *victim = &attack.pair.server;
        struct npl_direction *out = victim->link->tx.shared;
        struct np_op op = {.in = data, .size = sizeof data, .completed = NULL};
        pthread_mutex_lock(&victim->tx_lock);
        CHECK_EQUAL(np_tx_submit(victim->link, &op), NP_OK);
        CHECK(op.count < op.size);
        /* Up to what stands there it may be so. */
        atomic_store(&out->consumer.consumed, op.count);
        CHECK_EQUAL(np_tx_pump(victim->link), NP_OK);
        if (lie == 0)
            atomic_store(&out->consumer.consumed, op.count + 1);
        else if (lie == 1)
            atomic_store(&out->consumer.consumed, atomic_load(&out->producer.announced));
        else
            atomic_store(&out->consumer.taken, 2);
        CHECK_EQUAL(np_tx_pump(victim->link), NP_INVALID_DATA);
        np_tx_forget(victim->link, &op);
        pthread_mutex_unlock(&victim->tx_lock);
        CHECK_EQUAL(try_write(victim, "x", 1), NP_INVALID_DATA);
        close_pair(&attack.pair);
    }
}

static void a_reader_that_has_taken_what_waits_for_its_place_ends_the_link(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 65536);
    struct np_handle *victim = &attack.pair.server;
    struct np_tx *tx = &victim->link->tx;
    uint32_t count = fill_with_empty_messages(victim);
    atomic_store(&tx->shared->consumer.taken, tx->last_put);
    CHECK_EQUAL(try_write(victim, "x", 1), NP_WOULD_WAIT);
    CHECK(tx->last_put < count);
    atomic_store(&tx->shared->consumer.taken, tx->last_put + 1);
    CHECK_EQUAL(try_write(victim, "x", 1), NP_INVALID_DATA);
    close_pair(&attack.pair);
}

/* Whatever the reader says of what it has read, and however many reads it says that it has under way. */
static void what_is_kept_outside_the_ring_is_bounded(void)
{
    static uint8_t data[65536];
    for (int lie = 0; lie < 2; lie++) {
        struct attack attack;
        open_attack(&attack, NP_TYPE_MESSAGE, 65536);
        struct np_handle *victim = &attack.pair.server;
        struct np_tx *tx = &victim->link->tx;
        fill_with_empty_messages(victim);
        CHECK(tx->kept <= 1 << 20);
        if (lie) {
            for (int i = 0; i < NPL_POSTS; i++)
                atomic_store(&tx->shared->posts.size[i], UINT32_MAX);
            atomic_store(&tx->shared->posts.posted, NPL_POSTS);
            atomic_fetch_or(&victim->link->peer_sleep->flags, NPL_POSTED);
        }
        for (int i = 0; i < 1000; i++) {
            atomic_store(&tx->shared->consumer.consumed, tx->announced - tx->outside);
            uint32_t code = try_write(victim, data, i % 3 ? 1000 : sizeof data);
            CHECK(code == NP_WOULD_WAIT || code == NP_OK);
            CHECK(tx->kept <= 1 << 20);
        }
        close_pair(&attack.pair);
    }
}

static void a_peer_that_answers_and_does_not_read_is_not_sent_transactions_without_end(void)
{
    static uint8_t data[65536], reply[16];
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 16384);
    struct np_handle *victim = &attack.pair.server;
    struct np_object *file = np_object_new(NP_OBJECT_FILE, true, false);
    struct np_telling telling = {.file = file};
    atomic_init(&victim->refs, 1);
    uint32_t code = NP_IO_PENDING, turns = 0;
    for (; turns < 200 && code == NP_IO_PENDING; turns++) {
        struct np_async *async = np_async_new();
        np_async_prepare(async, victim, NP_ASYNC_TRANSACT, &telling);
        code = np_async_transact(async, data, sizeof data, reply, sizeof reply);
        if (code == NP_IO_PENDING) {
            CHECK_EQUAL(try_write(&attack.pair.client, "answer", 6), NP_OK);
            np_async_drive(victim);
            CHECK_EQUAL(np_async_code(async), NP_OK);
            np_async_unref(np_async_reap());
        }
        np_async_unref(async);
    }
    CHECK_EQUAL(code, NP_NO_SYSTEM_RESOURCES);
    CHECK(turns > 4 && turns < 40);
    CHECK(victim->link->tx.kept <= 1 << 20);
    np_async_end(victim->link, NP_BROKEN_PIPE); /* as a close does it */
    np_object_unref(file);
    close_pair(&attack.pair);
}

static void bytes_in_the_socket_without_end_do_not_hold_a_call(void)
{
    struct attack attack;
    open_attack(&attack, NP_TYPE_MESSAGE, 4096);
    int64_t began = np_now();
    static const char bytes[40];
    for (int i = 0; i < 10000; i++)
        (void)np_send_message(attack.pair.client.link->socket, bytes, (size_t)i % sizeof bytes, i % 7 ? -1 : 0);
    for (int i = 0; i < 100; i++) {
        np_arm_read(&attack.pair.server);
        np_link_drain_socket(attack.pair.server.link);
    }
    CHECK_EQUAL(read_for(&attack.pair.server, 20), NP_SEM_TIMEOUT);
    CHECK_EQUAL(try_write(&attack.pair.client, "abc", 3), NP_OK);
    expect_read(&attack.pair.server, 100, NP_OK, "abc");
    in_time(began, SLACK_MS);
    close_pair(&attack.pair);
}

int main(void)
{
    RUN(an_entry_that_is_taken_back_and_still_there_ends_the_link);
    RUN(a_message_that_shrinks_after_it_was_seen_is_not_delivered);
    RUN(one_that_says_it_is_gone_and_goes_on_writing_is_gone);
    RUN(withdrawn_entries_without_end_do_not_hold_a_read);
    RUN(empty_messages_without_end_do_not_hold_a_read_of_bytes);
    RUN(rewinds_without_end_hold_neither_a_read_nor_a_peek);
    RUN(a_tail_that_wavers_holds_neither_a_peek_nor_a_wait);
    RUN(a_sleepers_word_that_moves_all_the_time_does_not_keep_it_beyond_its_time);
    RUN(an_event_loops_step_ends_though_the_peer_moves_all_the_time);
    RUN(messages_that_are_taken_back_do_not_keep_their_reader_beyond_its_time);
    RUN(a_wait_for_an_overlapped_read_ends_by_its_time_though_the_peer_moves_all_the_time);
    RUN(a_read_that_fails_while_its_rest_is_waited_for_is_told_and_not_also_refused);
    RUN(a_message_that_comes_byte_by_byte_does_not_keep_its_reader_beyond_its_time);
    RUN(a_reader_that_takes_what_is_being_withdrawn_only_ends_the_link);
    RUN(a_reader_that_has_read_what_is_not_in_the_ring_ends_the_link);
    RUN(a_reader_that_has_taken_what_waits_for_its_place_ends_the_link);
    RUN(what_is_kept_outside_the_ring_is_bounded);
    RUN(a_peer_that_answers_and_does_not_read_is_not_sent_transactions_without_end);
    RUN(bytes_in_the_socket_without_end_do_not_hold_a_call);
    return 0;
}
